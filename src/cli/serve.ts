/** `main.ts serve`: the HTTP service. */
import type { ExportMerged } from "../../routes/service_context.ts";
import { COMMANDS } from "../commands.ts";
import { type Config, readConfig } from "../config.ts";
import { endedInScoring } from "../engine/journal.ts";
import type { JobRunner } from "../jobs/runner.ts";
import { logger, startLogging } from "../log.ts";
import { tighten } from "../private_files.ts";
import { isLoopback } from "../loopback.ts";
import { textThread } from "../text/thread.ts";
import { parseCommand } from "./_arguments.ts";
import { checkRoot, deviceOptions, endsWithin, openStore, type StartEngine, stopSignal } from "./_command.ts";
import { type Handler, type HttpServer, serveHttp } from "./_http_server.ts";
import { refuse } from "./_refuse.ts";
import { readTokens } from "./_tokens.ts";

const log = logger("serve");

/** Hosts kill a container 10 s after SIGTERM; the process itself takes up to 2 s to end. */
const shutdownMs = 7_000;

/** What the service is put together from. */
export interface ServeParts {
  readonly startEngine: StartEngine;
  readonly exportMerged: ExportMerged;
}

/**
 * Serves until SIGTERM or SIGINT, then puts the running job down at a checkpoint.
 *
 * @returns the exit code: 0, or 1 where the device's thread has ended and could not be started again
 * @throws InputError for a setting that cannot be used
 */
export async function serve(
  args: readonly string[],
  { startEngine, exportMerged }: ServeParts,
): Promise<number> {
  if (parseCommand("serve", COMMANDS.serve, args) === null) return 0;
  const settings = readConfig();
  startLogging(settings.logLevel);
  const config = { ...settings, tokens: await readTokens(settings) };
  checkReach(config);
  await checkRoot(config);
  using store = await openStore(config);
  const signal = stopSignal();
  const stopping = new AbortController();
  const broken = Promise.withResolvers<Error>();
  let runner: JobRunner | null = null;
  let server: HttpServer | null = null;
  const jobsCharged = !endedInScoring(config.state);
  const engine = startEngine({
    ...deviceOptions(config),
    journalFolder: config.state,
    compileAhead: true,
    onBroken: (error) => {
      // The running job is put back into the queue rather than failed.
      void runner?.stop();
      broken.resolve(error);
    },
  });
  engine.catch(() => {}); // waited for below, once there is a server
  try {
    // The server's modules are loaded, and it listens, while the device starts on the engine's thread: a host's probes
    // see a live process early, and the first score waits for the longer of the two only.
    const [{ createApp }, { JobRunner }, { openHub }] = await Promise.all([
      import("../../routes/app.ts"),
      import("../jobs/runner.ts"),
      import("./_hub.ts"),
    ]);
    const hub = openHub(config);
    const { root, state, cache } = config;
    runner = new JobRunner({ store, hub, root, state, cache, engine, limits: config, jobsCharged });
    const app = createApp({ config, store, hub, runner, engine, stopping: stopping.signal, exportMerged });
    server = listen(config, (request, reach) => app.fetch(request, reach));
    // It holds this thread up for some hundredths of a second, in which the device starts.
    textThread().start();
    runner.start();
    void tighten(config).then((faults) => faults.forEach((fault) => log.warning("{fault}", { fault })));
    const started = await Promise.race([engine, signal]);
    if (typeof started !== "string") {
      const { kind, description } = await started.call("device", null);
      log[kind === "gpu" ? "info" : "warning"]("Ready on {kind} device {description}.", {
        kind,
        description,
      });
    }
    const end = await Promise.race([signal, broken.promise]);
    if (typeof end !== "string") {
      log.error("{error} The process ends; jobs go on when it is started again.", { error: end });
      return 1;
    }
    log.info("{signal}: stopping.", { signal: end });
  } finally {
    // Streams end by this signal; an open one would hold up the server's own shutdown.
    stopping.abort();
    const ended = await endsWithin(
      Promise.allSettled([server?.shutdown(), runner?.stop(), engine.then((engine) => engine.stop())]),
      shutdownMs,
    );
    if (!ended) log.warning("Something did not end in time; a running job goes on from its last checkpoint.");
  }
  return 0;
}

/** @throws InputError where other machines could ask without a token, and nobody has said that they may */
function checkReach({ host, tokens, insecure }: Config): void {
  if (isLoopback(host) || tokens.length > 0) return;
  if (insecure) {
    return log.warning("Whoever reaches {host} may score, train and delete: no token is asked for.", {
      host,
    });
  }
  const accepted = "SIMPO_TOKEN (or SIMPO_TOKEN_FILE), or SIMPO_INSECURE=1 to serve whoever asks";
  const sentence =
    `HOST ${host} can be reached from other machines, and no token is asked for: set ${accepted}.`;
  refuse("HOST", host, `an address of this machine alone, ${accepted}`, sentence);
}

function listen({ port, host }: Config, handler: Handler): HttpServer {
  try {
    const server = serveHttp({ port, hostname: host }, handler);
    const { hostname } = server.addr;
    const url = `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${server.addr.port}`;
    log.info("Listening on {url}.", { url, port: server.addr.port });
    return server;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      const accepted = "a free port, or 0 for any";
      refuse("PORT", port, accepted, `PORT ${port} is in use: give ${accepted}.`);
    }
    if (error instanceof Deno.errors.AddrNotAvailable) {
      const accepted = "an address of this machine, such as 127.0.0.1 or 0.0.0.0";
      refuse("HOST", host, accepted, `HOST ${host} is no address of this machine: give ${accepted}.`);
    }
    const accepted = "an address of this machine and a port that this process may listen on";
    const sentence = `HOST ${host}, PORT ${port} cannot be listened on: ${(error as Error).message}`;
    return refuse("HOST", host, accepted, sentence);
  }
}
