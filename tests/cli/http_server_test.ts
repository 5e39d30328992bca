import assert from "node:assert/strict";
import {
  type ConnectionBounds,
  type Handler,
  type HttpServer,
  serveHttp,
} from "../../src/cli/_http_server.ts";

const bounds: ConnectionBounds = { headMs: 200, idleMs: 300, most: 4 };
const local = { port: 0, hostname: "127.0.0.1" };
const HEAD = "GET / HTTP/1.1\r\nHost: localhost\r\n";

/** A connection that is written to by hand. */
class Client implements Disposable {
  private constructor(readonly connection: Deno.TcpConn) {}

  static async open({ addr }: HttpServer): Promise<Client> {
    return new Client(await Deno.connect({ port: addr.port, hostname: addr.hostname }));
  }

  async send(text: string): Promise<void> {
    await this.connection.write(new TextEncoder().encode(text));
  }

  /** What comes next; null: the connection has ended. */
  async receive(): Promise<string | null> {
    const buffer = new Uint8Array(1000);
    const length = await this.connection.read(buffer).catch(() => null);
    return length === null ? null : new TextDecoder().decode(buffer.subarray(0, length));
  }

  /** Sends a piece every few milliseconds until the connection has ended. @returns milliseconds until then */
  async drip(piece: string): Promise<void> {
    let ended = false;
    const end = this.receive().then(() => ended = true);
    while (!ended) {
      await this.send(piece).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await end;
  }

  [Symbol.dispose](): void {
    this.connection.close();
  }
}

async function serving(handler: Handler, test: (server: HttpServer) => Promise<void>): Promise<void> {
  const server = serveHttp(local, handler, bounds);
  try {
    await test(server);
  } finally {
    await server.shutdown();
  }
}

Deno.test("serveHttp() ends connections whose first request never comes, and answers others meanwhile", () =>
  serving(() => new Response("yes"), async (server) => {
    const sent: [first: string, piece: string][] = [
      ["", ""],
      ["", "G"],
      [HEAD, "X: y\r\n"],
      ["GET / HTTP/1.1\r\nX: ", "y"],
    ];
    const ends = sent.map(async ([first, piece]) => {
      using client = await Client.open(server);
      await client.send(first);
      await client.drip(piece);
    });
    using other = await Client.open(server);
    await other.send(`${HEAD}\r\n`);
    assert.match(await other.receive() ?? "", /^HTTP\/1\.1 200 OK/);
    await Promise.all(ends);
  }));

Deno.test("serveHttp() ends a connection whose next request never comes, and not one that still waits for its answer", () => {
  const answer = Promise.withResolvers<Response>();
  return serving(() => answer.promise, async (server) => {
    using client = await Client.open(server);
    await client.send(`${HEAD}\r\n`);
    const received = client.receive();
    await new Promise((resolve) => setTimeout(resolve, 500)); // longer than either bound
    answer.resolve(new Response("late"));
    assert.match(await received ?? "", /^HTTP\/1\.1 200 OK/);
    await client.drip("X");
  });
});

Deno.test("serveHttp() keeps a connection open for requests that come in time", () =>
  serving(() => new Response("yes"), async (server) => {
    using client = await Client.open(server);
    for (let i = 0; i < 4; i++) {
      await client.send(`${HEAD}\r\n`);
      assert.match(await client.receive() ?? "", /^HTTP\/1\.1 200 OK/);
      await new Promise((resolve) => setTimeout(resolve, 150)); // longer than the first head's bound in all
    }
  }));

Deno.test("serveHttp() lets the longest quiet connection go where there are too many, and none that is busy", () => {
  const answer = Promise.withResolvers<Response>();
  return serving(
    ({ url }) => url.endsWith("/busy") ? answer.promise : new Response("yes"),
    async (server) => {
      using busy = await Client.open(server);
      await busy.send("GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n");
      const quiet: Client[] = [];
      for (let i = 0; i < 4; i++) quiet.push(await Client.open(server));
      assert.equal(await quiet[0]!.receive(), null);
      await quiet[3]!.send(`${HEAD}\r\n`);
      assert.match(await quiet[3]!.receive() ?? "", /^HTTP\/1\.1 200 OK/);
      answer.resolve(new Response("late"));
      assert.match(await busy.receive() ?? "", /^HTTP\/1\.1 200 OK/);
      for (const client of quiet) client[Symbol.dispose]();
    },
  );
});

Deno.test("serveHttp() survives clients that go at any moment", () =>
  serving(async (request) => {
    await request.text().catch(() => {});
    return new Response("a".repeat(100_000));
  }, async (server) => {
    const starts = [
      "",
      "G",
      HEAD,
      `${HEAD}\r\n`,
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
    ];
    for (const start of [...starts, ...starts]) {
      const client = await Client.open(server);
      await client.send(start);
      await new Promise((resolve) => setTimeout(resolve, 5));
      client[Symbol.dispose]();
    }
    using other = await Client.open(server);
    await other.send(`${HEAD}\r\n`);
    assert.match(await other.receive() ?? "", /^HTTP\/1\.1 200 OK/);
  }));

Deno.test("serveHttp() shuts down though connections are open, once what is under way is answered", async () => {
  const answer = Promise.withResolvers<Response>();
  const server = serveHttp(local, () => answer.promise, bounds);
  using idle = await Client.open(server);
  using busy = await Client.open(server);
  await busy.send(`${HEAD}\r\n`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const down = server.shutdown();
  answer.resolve(new Response("late"));
  assert.match(await busy.receive() ?? "", /^HTTP\/1\.1 200 OK/);
  assert.equal(await idle.receive(), null);
  await down;
  await assert.rejects(Client.open(server));
});
