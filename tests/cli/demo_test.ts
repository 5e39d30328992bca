import assert from "node:assert/strict";
import { join } from "node:path";
import { Client } from "../../src/cli/_client.ts";
import { type DemoInput, readHeldOut, runDemo } from "../../src/cli/demo.ts";
import { openTar } from "../../src/model/tar.ts";

const ROWS = [1, 2, 3, 4].map((number) => ({
  prompt: [{ role: "user", content: `${number} + 0?` }],
  chosen: [{ role: "assistant", content: `${number}` }],
  rejected: [{ role: "assistant", content: `It is ${number + 1}.` }],
}));

/** What the pretended worker does; left out: train well. */
interface Behaviour {
  readonly learns?: boolean;
  readonly status?: "succeeded" | "failed";
  /** Ends the first event stream after so many events. */
  readonly breaksAfter?: number;
}

/** Body of POST /score; other paths' bodies have none of its keys. */
interface ScoreBody {
  readonly model: string;
  readonly adapter?: string;
  readonly max_length?: number;
  readonly items: readonly { readonly candidates: readonly string[] }[];
}

/** A worker that knows the wire shapes and nothing else: without an adapter the longer candidate wins. */
function pretendWorker(folder: string, { learns = true, status = "succeeded", breaksAfter }: Behaviour) {
  const requests: { path: string; body?: ScoreBody; lastEventId?: string | null }[] = [];
  const events = [
    ["status", { status: "running", total_steps: 2 }],
    ["metrics", { step: 1, loss: 0.9, "rewards/margins": 0.1, "rewards/accuracies": 0.5 }],
    ["metrics", { step: 2, loss: 0.4, "rewards/margins": 1.5, "rewards/accuracies": 1, eval_loss: 0.5 }],
    ["done", { status }],
  ] as const;
  const score = (body: ScoreBody) => ({
    model: body.model,
    items: body.items.map(({ candidates }) => {
      const sign = body.adapter !== undefined && learns ? -1 : 1;
      const results = candidates.map((text) => ({
        average_logprob: sign * text.length - 20,
        num_tokens: text.length,
      }));
      return { results, best: 0, margin: 0 };
    }),
  });
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    const path = new URL(request.url).pathname;
    const body = request.method === "POST" ? await request.json() : undefined;
    const lastEventId = request.headers.get("last-event-id");
    requests.push({ path, body, lastEventId });
    switch (path) {
      case "/readyz":
        // Not at once: the client has to ask again.
        return new Response(null, { status: requests.length < 3 ? 503 : 200 });
      case "/score":
        return Response.json(score(body!));
      case "/train":
        return Response.json({ id: "j1", status: "queued" }, { status: 202 });
      case "/train/j1":
        return Response.json({
          id: "j1",
          status,
          error: status === "failed" ? { detail: "NaN in row 3" } : null,
        });
      case "/train/j1/events": {
        const from = Number(lastEventId);
        const to = from === 0 ? breaksAfter : undefined;
        const text = events.slice(from, to).map(([event, data], index) =>
          `id: ${from + index + 1}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
        );
        return new Response(text.join(""), { headers: { "content-type": "text/event-stream" } });
      }
      case "/train/j1/adapter":
        return new Response(
          (await openTar([{ name: "adapter_config.json", path: join(folder, "config") }])).stream,
        );
      default:
        return new Response("no such path", { status: 404 });
    }
  });
  return { url: `http://127.0.0.1:${server.addr.port}`, requests, stop: () => server.shutdown() };
}

async function withDemo(
  behaviour: Behaviour,
  work: (
    demo: { run: () => Promise<number>; client: Client; input: DemoInput } & ReturnType<typeof pretendWorker>,
  ) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  await Deno.writeTextFile(join(folder, "config"), "{}");
  const rows = join(folder, "rows.jsonl");
  await Deno.writeTextFile(rows, ROWS.map((row) => JSON.stringify(row)).join("\n"));
  const input = {
    job: { model: "m" },
    encoding: { max_length: 9 },
    output: join(folder, "output"),
    ...await readHeldOut(rows),
  };
  const worker = pretendWorker(folder, behaviour);
  const client = new Client(worker.url, new AbortController().signal);
  try {
    await work({ ...worker, client, input, run: () => runDemo(client, input) });
  } finally {
    await worker.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("readHeldOut() puts the preferred candidate first and second in turns", () =>
  withDemo({}, ({ input }) => {
    assert.deepEqual(input.pairs.map((pair) => pair.candidates[pair.preferred]), ["1", "2", "3", "4"]);
    assert.deepEqual(input.pairs.map((pair) => pair.preferred), [0, 1, 0, 1]);
    assert.deepEqual(input.items[1], { messages: ROWS[1]!.prompt, candidates: ["It is 3.", "2"] });
    return Promise.resolve();
  }));

Deno.test("runDemo() scores, trains, scores with the job as adapter, and leaves adapter and curves behind", () =>
  withDemo({}, async ({ run, client, input, requests }) => {
    await client.ready();
    assert.equal(await run(), 0);
    const scores = requests.filter(({ path }) => path === "/score");
    assert.deepEqual(scores.map(({ body }) => body?.adapter), [undefined, "j1"]);
    assert.deepEqual(scores.map(({ body }) => body?.items.length), [4, 4]);
    assert.deepEqual(scores.map(({ body }) => body?.max_length), [9, undefined]);
    assert.equal(await Deno.readTextFile(join(input.output, "adapter", "adapter_config.json")), "{}");
    const curves = await Deno.readTextFile(join(input.output, "curves.svg"));
    for (const name of ["loss", "rewards/margins", "rewards/accuracies"]) {
      assert.ok(curves.includes(`>${name}<`), name);
    }
  }));

Deno.test("runDemo() answers 1 where training does not reach what it promises", () =>
  withDemo({ learns: false }, async ({ run }) => {
    assert.equal(await run(), 1);
  }));

Deno.test("runDemo() takes up the events where a connection broke off", () =>
  withDemo({ breaksAfter: 2 }, async ({ run, requests }) => {
    assert.equal(await run(), 0);
    const asked = requests.filter(({ path }) => path === "/train/j1/events").map(({ lastEventId }) =>
      lastEventId
    );
    assert.deepEqual(asked, ["0", "2"]);
  }));

Deno.test("runDemo() fails with the job's error where training fails", () =>
  withDemo({ status: "failed" }, async ({ run }) => {
    await assert.rejects(run, { name: "ServiceError", message: /failed.*NaN in row 3/ });
  }));

Deno.test("Client names the request and the answer where the worker refuses", () =>
  withDemo({}, async ({ client }) => {
    await assert.rejects(() => client.job("j2"), { message: "GET /train/j2 answered 404: no such path" });
  }));
