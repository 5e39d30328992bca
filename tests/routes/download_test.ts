/** `GET /train/{id}/adapter` as a download that goes on where it broke off. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createTarDecoder } from "modern-tar";
import { join } from "node:path";
import { type TestService, testService } from "../helpers/service.ts";

interface Download {
  readonly folder: string;
  /** Asks for the archive with headers. */
  readonly get: (headers?: Record<string, string>, method?: string) => Promise<Response>;
  readonly service: TestService;
}

async function withDownload(test: (download: Download) => Promise<void>): Promise<void> {
  await using service = await testService();
  const job = { model: "model", dataset: { path: "rows.jsonl" }, lora: null };
  const { id } = (await service.post("/train", job)).body;
  await service.until(id, "succeeded");
  const folder = join(service.root, "state", "jobs", id, "result");
  await Deno.writeFile(join(folder, "weights"), new Uint8Array(700_000).map((_, i) => i * 31));
  await test({
    folder,
    service,
    get: async (headers = {}, method = "GET") =>
      await service.app.request(`/train/${id}/adapter`, { method, headers }),
  });
}

const header = (response: Response, name: string) => response.headers.get(name);

Deno.test("HEAD /train/{id}/adapter tells the size and the version, and reads nothing", () =>
  withDownload(async ({ get }) => {
    const [head, whole] = [await get({}, "HEAD"), await get()];
    const bytes = await whole.bytes();
    assert.equal(header(head, "content-length"), `${bytes.length}`);
    assert.equal((await head.bytes()).length, 0);
    for (const name of ["etag", "content-length", "accept-ranges", "content-type"]) {
      assert.equal(header(head, name), header(whole, name), name);
    }
    assert.equal(header(head, "accept-ranges"), "bytes");
    assert.deepEqual(await (await get()).bytes(), bytes, "the same bytes again");
  }));

Deno.test("GET /train/{id}/adapter goes on with Range where a download broke off", () =>
  withDownload(async ({ get, folder }) => {
    const first = await get();
    const etag = header(first, "etag")!;
    const whole = Buffer.from(await first.bytes());
    const size = whole.length;
    const ranges: [range: string, begin: number, end: number][] = [
      ["bytes=0-0", 0, 1],
      ["bytes=1000-400000", 1000, 400_001],
      [`bytes=${size - 1}-`, size - 1, size],
      ["bytes=300000-99999999999", 300_000, size],
      ["bytes=-1500", size - 1500, size],
      ["bytes=-99999999999", 0, size],
    ];
    for (const [range, begin, end] of ranges) {
      const part = await get({ range, "if-range": etag });
      assert.equal(part.status, 206, range);
      assert.equal(header(part, "content-range"), `bytes ${begin}-${end - 1}/${size}`);
      assert.equal(header(part, "content-length"), `${end - begin}`);
      assert.ok(whole.subarray(begin, end).equals(await part.bytes()), range);
    }
    for (const range of ["bytes=0-1,5-6", "bytes=5-4", "bytes=-", "bytes=a-b", "lines=1-2"]) {
      const answer = await get({ range });
      assert.deepEqual([answer.status, (await answer.bytes()).length], [200, size], range);
    }
    for (const range of [`bytes=${size}-`, "bytes=-0", `bytes=${"9".repeat(400)}-`]) {
      const refused = await get({ range });
      assert.deepEqual([refused.status, header(refused, "content-range")], [416, `bytes */${size}`], range);
      assert.equal((await refused.json()).field, "range");
    }
    await Deno.writeFile(join(folder, "weights"), new Uint8Array(700_000));
    await Deno.utime(join(folder, "weights"), 1, 1);
    const changed = await get({ range: "bytes=600000-", "if-range": etag });
    assert.deepEqual([changed.status, (await changed.bytes()).length], [200, size]);
    assert.notEqual(header(changed, "etag"), etag);
  }));

Deno.test("GET /train/{id}/adapter heeds If-Match and If-None-Match", () =>
  withDownload(async ({ get }) => {
    const etag = header(await get({}, "HEAD"), "etag")!;
    for (const tag of [etag, `"x", W/${etag}`, "*"]) {
      const known = await get({ "if-none-match": tag });
      assert.deepEqual([known.status, header(known, "etag")], [304, etag], tag);
    }
    const statusOf = async (headers: Record<string, string>) => {
      const answer = await get(headers);
      await answer.body?.cancel();
      return answer.status;
    };
    assert.equal(await statusOf({ "if-none-match": '"x"' }), 200);
    assert.equal(await statusOf({ "if-match": `"x", ${etag}` }), 200);
    assert.equal(await statusOf({ "if-match": "*", range: "bytes=0-0" }), 206);
    const other = await get({ "if-match": '"x"' });
    assert.deepEqual([other.status, (await other.json()).field], [412, "if-match"]);
  }));

Deno.test("GET /train/{id}/adapter streams an archive of more than 8 GiB, from any byte on", () =>
  withDownload(async ({ get, folder }) => {
    const size = 8 * 2 ** 30 + 7;
    await Deno.truncate(join(folder, "weights"), size); // the rest is a hole
    const response = await get();
    assert.equal(response.status, 200);
    const length = Number(header(response, "content-length"));
    assert.ok(length > size);
    const entries = response.body!.pipeThrough(createTarDecoder({ strict: true })).getReader();
    const sizes: Record<string, number> = {};
    while (sizes["weights"] === undefined) {
      const { name, size } = (await entries.read()).value!.header;
      sizes[name] = size;
    }
    assert.equal(sizes["weights"], size);
    await entries.cancel();
    const end = await get({ range: "bytes=-1536" });
    assert.equal(header(end, "content-range"), `bytes ${length - 1536}-${length - 1}/${length}`);
    assert.deepEqual(await end.bytes(), new Uint8Array(1536));
  }));
