/** `_loading_process.ts FOLDER` loads a model, watches this process's memory and prints {@link Loaded} as JSON. */
import { Gpu } from "../src/gpu/mod.ts";
import { readModelConfig } from "../src/model/config.ts";
import { loadDecoder } from "../src/model/loading.ts";
import { WeightFiles } from "../src/model/safetensors.ts";

/** What loading a model took. */
export interface Loaded {
  /** The most of the host's memory above the start; weights that the software driver keeps there do not count. */
  readonly peak_bytes: number;
  readonly seconds: number;
}

if (import.meta.main) {
  const [folder] = Deno.args;
  const gpu = await Gpu.open({ device: "auto" });
  const config = await readModelConfig(folder!);
  using memory = await watchMemory();
  const before = await memory.peak();
  const start = performance.now();
  using checkpoint = await WeightFiles.open(folder!);
  await loadDecoder(gpu, checkpoint, config, {
    trainable: false,
    onLoad: ({ bytes }) => {
      if (gpu.software) memory.leaveOut(bytes);
    },
  });
  await gpu.settle(); // loading itself does not wait for the device
  const seconds = (performance.now() - start) / 1000;
  const loaded: Loaded = { peak_bytes: await memory.peak() - before, seconds };
  console.log(JSON.stringify(loaded));
  Deno.exit(0);
}

interface MemoryWatch extends Disposable {
  /** The most bytes so far, less what is left out. */
  peak(): Promise<number>;
  leaveOut(bytes: number): void;
}

/** Asks for the process's memory on a thread of its own, every few milliseconds. */
async function watchMemory(): Promise<MemoryWatch> {
  const source = `let peak = 0;
    let leftOut = new Float64Array(1);
    const look = () => peak = Math.max(peak, Deno.memoryUsage().rss - leftOut[0]);
    setInterval(look, 5);
    onmessage = ({ data }) => { if (data) leftOut = data; look(); postMessage(peak); };`;
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })), {
    type: "module",
  });
  const leftOut = new Float64Array(new SharedArrayBuffer(8));
  const ask = (data: Float64Array | null) => {
    const { promise, resolve } = Promise.withResolvers<number>();
    worker.onmessage = ({ data }) => resolve(data);
    worker.postMessage(data);
    return promise;
  };
  await ask(leftOut);
  return {
    peak: () => ask(null),
    leaveOut: (bytes) => leftOut[0] = bytes,
    [Symbol.dispose]: () => worker.terminate(),
  };
}
