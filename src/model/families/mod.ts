/** The families that are known, and what wraps them. */
export { llama } from "./llama.ts";
export { mistral, mistral3 } from "./mistral.ts";
export { qwen2, qwen3 } from "./qwen.ts";
export { gemma, gemma2, gemma3, gemma3Conditional } from "./gemma.ts";
export { phi3 } from "./phi3.ts";
export { olmo2 } from "./olmo.ts";
export { smollm3 } from "./smollm.ts";
export { granite } from "./granite.ts";
export { gpt2 } from "./gpt2.ts";
