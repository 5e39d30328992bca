import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readConfig, variablesOf } from "../src/config.ts";
import { InputError } from "../src/errors.ts";

const read = (values: Record<string, string>) => readConfig({ get: (name) => values[name] });

Deno.test("readConfig() listens on this machine only where nothing is said", () => {
  const checkout = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");
  assert.deepEqual(read({}), {
    port: 8080,
    host: "127.0.0.1",
    root: checkout,
    state: `${checkout}/state`,
    tokens: [],
    tokenFile: null,
    insecure: false,
    allowedHosts: [],
    device: "auto",
    memoryBytes: null,
    maxBodyBytes: 33554432,
    promptCacheBytes: null,
    minFreeBytes: 268435456,
    quotaBytes: null,
    trainShare: 0.5,
    queue: 512,
    logLevel: "info",
    cache: `${checkout}/state/hub`,
    hubEndpoint: "https://huggingface.co",
    hubHosts: [],
    hubToken: null,
  });
  assert.deepEqual(read({ PORT: "", SIMPO_TOKEN: "", SIMPO_ROOT: "" }), read({}));
});

Deno.test("readConfig() takes what is set", () => {
  const config = read({
    PORT: "0",
    HOST: "0.0.0.0",
    SIMPO_ROOT: "/data/",
    SIMPO_TOKEN: "s3cret, 0ther,",
    SIMPO_TOKEN_FILE: "/run/tokens",
    SIMPO_INSECURE: "1",
    SIMPO_ALLOWED_HOSTS: "Worker.example.com,*.example.org:443",
    SIMPO_DEVICE: "software",
    SIMPO_MEMORY: "22.5",
    SIMPO_MAX_BODY: "1000",
    SIMPO_PROMPT_CACHE: "2",
    SIMPO_MIN_FREE: "0",
    SIMPO_QUOTA: "1.5",
    SIMPO_TRAIN_SHARE: "0.75",
    SIMPO_QUEUE: "20",
    SIMPO_LOG: "debug",
    SIMPO_CACHE: "/cache",
    HF_ENDPOINT: "http://mirror:8000/",
    SIMPO_HOSTS: "cdn.example.com, *.example.org:443,[::1]:90",
    HF_TOKEN: "hf_x",
  });
  assert.deepEqual(config, {
    port: 0,
    host: "0.0.0.0",
    root: "/data",
    state: "/data/state",
    tokens: ["s3cret", "0ther"],
    tokenFile: "/run/tokens",
    insecure: true,
    allowedHosts: ["worker.example.com", "*.example.org:443"],
    device: "software",
    memoryBytes: 22.5 * 2 ** 30,
    maxBodyBytes: 1000,
    promptCacheBytes: 2097152,
    minFreeBytes: 0,
    quotaBytes: 1.5 * 2 ** 30,
    trainShare: 0.75,
    queue: 20,
    logLevel: "debug",
    cache: "/cache",
    hubEndpoint: "http://mirror:8000",
    hubHosts: ["cdn.example.com", "*.example.org:443", "[::1]:90"],
    hubToken: "hf_x",
  });
  assert.equal(read({ SIMPO_STATE: "jobs" }).state, `${Deno.cwd()}/jobs`);
});

Deno.test("readConfig() takes a HOST of every kind", () => {
  for (const HOST of ["localhost", "gpu-1.local", "0.0.0.0", "::", "fe80::1"]) {
    assert.equal(read({ HOST }).host, HOST);
  }
  assert.equal(read({ HOST: "[::1]" }).host, "::1");
});

Deno.test("variablesOf() names every variable that a reader asks for", () => {
  assert.deepEqual(variablesOf((environment) => environment.get("A") || environment.get("B")), ["A", "B"]);
  const names = variablesOf(readConfig);
  for (const name of ["PORT", "SIMPO_ROOT", "SIMPO_HOSTS", "HF_TOKEN"]) assert.ok(names.includes(name), name);
});

const refusals: [name: string, value: string, message: RegExp][] = [
  ["PORT", "http", /PORT must be a whole number from 0 to 65535, not "http"/],
  ["PORT", "65536", /PORT must be/],
  ["PORT", "-1", /PORT must be/],
  ["PORT", "1e3", /PORT must be/],
  ["SIMPO_MEMORY", "24GB", /SIMPO_MEMORY must be a number of GiB above 0, such as 22\.5, not "24GB"/],
  ["SIMPO_MEMORY", "0", /SIMPO_MEMORY must be/],
  ["SIMPO_MEMORY", "-1", /SIMPO_MEMORY must be/],
  ["SIMPO_DEVICE", "cuda", /SIMPO_DEVICE must be auto \| gpu \| software, not "cuda"/],
  ["SIMPO_PROMPT_CACHE", "64MB", /SIMPO_PROMPT_CACHE must be a whole number from 0/],
  ["SIMPO_TRAIN_SHARE", "1.5", /SIMPO_TRAIN_SHARE must be a number from 0 to 1, such as 0\.5, not "1\.5"/],
  ["SIMPO_TRAIN_SHARE", "half", /SIMPO_TRAIN_SHARE must be/],
  ["SIMPO_QUEUE", "0", /SIMPO_QUEUE must be a whole number from 1/],
  ["SIMPO_MAX_BODY", "0", /SIMPO_MAX_BODY must be a whole number from 1/],
  ["SIMPO_LOG", "loud", /SIMPO_LOG must be/],
  ["HF_ENDPOINT", "huggingface.co", /HF_ENDPOINT must be an http or https URL/],
  ["HF_ENDPOINT", "http://me:secret@mirror", /HF_ENDPOINT must be/],
  [
    "HOST",
    "0.0.0.0,elsewhere",
    /HOST must be an address or a name of this machine, not "0\.0\.0\.0,elsewhere"/,
  ],
  ["HOST", "localhost:80", /HOST must be/],
  ["HOST", "999.0.0.1", /HOST must be/],
  [
    "SIMPO_HOSTS",
    "cdn,https://cdn",
    /SIMPO_HOSTS must be hosts with commas between them, .* not "https:\/\/cdn"/,
  ],
  ["SIMPO_HOSTS", "*", /SIMPO_HOSTS must be/],
  ["SIMPO_HOSTS", "cdn:99999", /SIMPO_HOSTS must be/],
  ["SIMPO_ALLOWED_HOSTS", "http://worker", /SIMPO_ALLOWED_HOSTS must be hosts with commas between them/],
  ["SIMPO_ALLOWED_HOSTS", "*", /SIMPO_ALLOWED_HOSTS must be/],
  ["SIMPO_INSECURE", "yes", /SIMPO_INSECURE must be 0 \| 1, not "yes"/],
  ["HF_TOKEN", "a\nb", /HF_TOKEN must be printable ASCII/],
  ["SIMPO_TOKEN", "two words", /SIMPO_TOKEN must be printable ASCII/],
];

for (const [name, value, message] of refusals) {
  Deno.test(`readConfig() refuses ${name}=${value}`, () => {
    assert.throws(() => read({ [name]: value }), (error) => {
      assert.ok(error instanceof InputError);
      assert.match(error.message, message);
      assert.equal(error.field, name);
      return true;
    });
  });
}

Deno.test("readConfig() keeps a refused token out of the message", () => {
  assert.throws(() => read({ SIMPO_TOKEN: "two words" }), (error) => {
    assert.ok(error instanceof InputError);
    return !JSON.stringify([error.message, error.problem]).includes("two words");
  });
});
