import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { type DownloadProgress, Hub } from "../../src/hub/hub.ts";
import type { HubOptions } from "../../src/hub/options.ts";
import { parseHubName } from "../../src/hub/name.ts";
import { bytes, commit, type FakeHub, startFakeHub } from "../helpers/fake_hub.ts";

const model = parseHubName("hf://org/name", "model");
const weights = bytes(300_000);
const config = new TextEncoder().encode('{"a": 1}');
const all = (paths: string[]) => paths;

interface Lab {
  readonly hub: FakeHub;
  readonly cache: string;
  readonly folder: string;
  make(options?: Partial<HubOptions>): Hub;
}

async function withHub(test: (lab: Lab) => Promise<void>): Promise<void> {
  await using hub = startFakeHub();
  hub.repositories.set("org/name", new Map([["config.json", config], ["b.txt", config], ["w.bin", weights]]));
  const cache = await Deno.makeTempDir();
  try {
    const make = (options = {}) => new Hub({ cache, endpoint: hub.url, token: null, retryMs: 1, ...options });
    await test({ hub, cache, make, folder: join(cache, "models/org/name", commit) });
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
}

const refused = (message: RegExp, status = 422) => (error: unknown) => {
  assert(error instanceof InputError, String(error));
  assert.match(error.message, message);
  assert.equal(error.status, status);
  return true;
};

Deno.test("Hub.fetch() brings the chosen files once, and asks nothing when they are there", () =>
  withHub(async ({ hub, make, folder }) => {
    const seen: number[] = [];
    const onDownload = ({ file, bytes, total_bytes }: DownloadProgress) => {
      if (file !== "org/name/w.bin") return;
      assert.equal(total_bytes, weights.length);
      seen.push(bytes);
    };
    const some = (paths: string[]) => {
      assert.deepEqual(paths, ["config.json", "b.txt", "w.bin"]);
      return ["config.json", "w.bin"];
    };
    assert.equal(await make().fetch(model, some, undefined, onDownload), folder);
    assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), weights);
    assert.deepEqual(await Deno.readFile(join(folder, "config.json")), config);
    assert.deepEqual(
      (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort(),
      [".files.json", "config.json", "w.bin"],
    );
    assert.deepEqual([seen[0], seen.at(-1)], [0, weights.length]);
    assert.deepEqual(hub.requests.filter((request) => request.startsWith("/api")).length, 3);

    hub.requests.length = 0;
    const none = () => assert.fail("told of a download");
    assert.equal(await make().fetch(model, some, undefined, none), folder);
    assert.deepEqual(hub.requests, []);
  }));

Deno.test("Hub.fetch() goes on after a broken connection, in the same call and in a later one", () =>
  withHub(async ({ hub, make, folder }) => {
    hub.breakAfter = 100_000;
    await make().fetch(model, all);
    assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), weights);
    const ranges = hub.requests.filter((request) => request.startsWith("cdn"));
    assert.equal(ranges.length, 3);
    assert.match(ranges[1]!, / bytes=100000-$/);

    await Deno.remove(join(folder, "w.bin"));
    await Deno.writeFile(join(folder, "w.bin.part"), weights.subarray(0, 250_000));
    hub.requests.length = 0;
    const seen: number[] = [];
    await make().fetch(model, all, undefined, ({ bytes }) => seen.push(bytes));
    assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), weights);
    assert.match(hub.requests.at(-1)!, / bytes=250000-$/);
    assert.deepEqual([seen[0], seen.at(-1)], [250_000, weights.length]);
  }));

Deno.test("Hub.fetch() gives up a connection that brings nothing, and keeps what has come", () =>
  withHub(async ({ hub, make, folder }) => {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeFile(join(folder, "w.bin.part"), weights.subarray(0, 1000));
    hub.breakAfter = 0;
    hub.repositories.get("org/name")!.delete("config.json");
    hub.repositories.get("org/name")!.delete("b.txt");
    await assert.rejects(
      make().fetch(model, all),
      refused(/cannot be reached for w\.bin of the model/, 503),
    );
    assert.equal(hub.requests.filter((request) => request.startsWith("cdn")).length, 4);
    assert.equal((await Deno.stat(join(folder, "w.bin.part"))).size, 1000);
  }));

Deno.test("Hub.fetch() passes over what it has where a server ignores ranges", () =>
  withHub(async ({ hub, make, folder }) => {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeFile(join(folder, "w.bin.part"), weights.subarray(0, 123_456));
    hub.ignoresRanges = true;
    await make().fetch(model, all);
    assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), weights);
  }));

for (const [what, path] of [["a large file", "w.bin"], ["a small file", "config.json"]] as const) {
  Deno.test(`Hub.fetch() refuses other content than the list says of ${what}, and removes it`, () =>
    withHub(async ({ hub, make, folder }) => {
      await make().list(model);
      const files = hub.repositories.get("org/name")!;
      const whole = files.get(path)!;
      const changed = whole.slice();
      changed[5]! ^= 1;
      files.set(path, changed);
      const refusal = refused(/other content than the hub's list says/);
      await assert.rejects(make().fetch(model, all), refusal);
      const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
      assert(!names.includes(path) && !names.includes(`${path}.part`), names.join());
      files.set(path, whole);
      await make().fetch(model, all);
    }));
}

Deno.test("Hub.fetch() sends the token to the hub and to no other host", () =>
  withHub(async ({ hub, make }) => {
    hub.token = "hf_secret";
    await assert.rejects(
      make().fetch(model, all),
      refused(/\(401\).*private or gated, and set HF_TOKEN/),
    );
    const wrong = make({ token: "hf_other" });
    await assert.rejects(wrong.fetch(model, all), (error) => {
      assert(!String(error).includes("hf_other"));
      return refused(/HF_TOKEN must be a token/)(error);
    });
    hub.requests.length = 0;
    await make({ token: "hf_secret" }).fetch(model, all);
    assert(
      hub.requests.every((request) => request.startsWith("cdn ") !== request.endsWith(" auth")),
      hub.requests.join(),
    );
  }));

Deno.test("Hub.fetch() says what is not there, gated, failing or out of reach", () =>
  withHub(async ({ hub, make }) => {
    const name = (text: string) => parseHubName(text, "model");
    await assert.rejects(
      make().fetch(name("hf://org/none"), all),
      refused(/does not have the model org\/none/, 404),
    );
    await assert.rejects(
      make().fetch(name("hf://org/name@v2"), all),
      refused(/at revision v2/, 404),
    );
    await make().list(name("hf://org/name@v1"));
    hub.refusals.set("org/gated", 403);
    await assert.rejects(make().fetch(name("hf://org/gated"), all), refused(/\(403\).*gated/));
    hub.refusals.set("org/ill", 500);
    await assert.rejects(make().fetch(name("hf://org/ill"), all), refused(/answers 500/, 503));
    const away = make({ endpoint: "http://127.0.0.1:9" });
    await assert.rejects(
      away.fetch(name("hf://org/away"), all),
      refused(/127\.0\.0\.1:9 cannot be reached/, 503),
    );
  }));

Deno.test("Hub.fetch() shares a download and ends it when the last who waits has gone", () =>
  withHub(async ({ hub, make, folder }) => {
    const sent = Promise.withResolvers<void>();
    hub.beforeFile = (path) => path === "w.bin" ? sent.promise : undefined;
    const client = make();
    const [first, second] = [new AbortController(), new AbortController()];
    const begun = () => hub.requests.filter((request) => request.startsWith("cdn")).length;
    const calls = [first, second].map(({ signal }) => client.fetch(model, all, signal));
    while (begun() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    first.abort(new Error("left"));
    await assert.rejects(calls[0]!, /left/);
    sent.resolve();
    await calls[1];
    assert.equal(begun(), 1);
    assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), weights);

    await Deno.remove(join(folder, "w.bin"));
    const never = Promise.withResolvers<void>();
    hub.beforeFile = () => never.promise;
    const third = new AbortController();
    const call = client.fetch(model, all, third.signal);
    while (begun() === 1) await new Promise((resolve) => setTimeout(resolve, 1));
    third.abort(new Error("left"));
    await assert.rejects(call, /left/);
    never.resolve();
    hub.beforeFile = () => {};
    await client.fetch(model, all);
  }));

Deno.test("Hub.fetch() waits for another process's download, and no longer than anybody waits for it", () =>
  withHub(async ({ make, folder }) => {
    await make().list(model);
    const other = await Deno.open(join(folder, "w.bin.part"), { create: true, write: true });
    await other.lock(true);
    const { tryLock } = Deno.FsFile.prototype;
    let tries = 0;
    Deno.FsFile.prototype.tryLock = function (exclusive) {
      tries++;
      return tryLock.call(this, exclusive);
    };
    const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    try {
      const leaving = new AbortController();
      const call = make().fetch(model, () => ["w.bin"], leaving.signal);
      for (let i = 0; i < 200 && tries === 0; i++) await sleep(5);
      assert(tries > 0, "nobody tried for the lock");
      leaving.abort(new Error("left"));
      await assert.rejects(call, /left/);
      const before = tries;
      await sleep(500);
      assert.equal(tries, before);

      const waiting = make().fetch(model, () => ["w.bin"]);
      while (tries === before) await sleep(1);
      other.close();
      await waiting;
      assert.deepEqual(await Deno.readFile(join(folder, "w.bin")), weights);
    } finally {
      Deno.FsFile.prototype.tryLock = tryLock;
    }
  }));

Deno.test("Hub.fetch() writes no file outside its folder, whatever the list says", () =>
  withHub(async ({ hub, make, cache }) => {
    hub.repositories.set(
      "org/name",
      new Map([["../../escape", config], ["/abs", config], ["ok/in.txt", config]]),
    );
    const folder = await make().fetch(model, (paths) => {
      assert.deepEqual(paths, ["ok/in.txt"]);
      return paths;
    });
    assert.deepEqual(await Deno.readFile(join(folder, "ok/in.txt")), config);
    assert.equal(await Deno.stat(join(cache, "models/org/escape")).catch(() => null), null);
  }));
