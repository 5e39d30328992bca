import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { commandArguments } from "../src/cli/_server_process.ts";
import { CHECKOUT } from "../src/config.ts";
import { InputError } from "../src/errors.ts";
import { type Command, permissionFlags } from "../src/permissions.ts";
import type { Targets } from "./fixtures/hostile_dependency.ts";
import { inFolder } from "./helpers/folder.ts";

/** The lists of a command's flags by their names. */
function permissions(
  [name, ...args]: readonly string[],
  env: Record<string, string> = {},
): Record<string, string[]> {
  const flags = permissionFlags(name, args, { get: (name) => env[name] });
  return Object.fromEntries(flags.map((flag) => {
    const [, kind, list = ""] = /^--(?:allow-)?([\w-]+)(?:=(.+))?$/.exec(flag)!;
    return [kind, list.split(",")];
  }));
}

const CODE = [join(CHECKOUT, "src"), join(CHECKOUT, "shaders")];
const HUB = ["huggingface.co:443", "*.huggingface.co:443", "*.hf.co:443"];
const FOLDERS = { SIMPO_ROOT: "/nowhere/root", SIMPO_STATE: "/nowhere/state", SIMPO_CACHE: "/nowhere/cache" };

Deno.test("permissionFlags() gives serve its folders, its port and the hub where nothing is set", () => {
  const state = join(CHECKOUT, "state");
  const { env, ...rest } = permissions(["serve"]);
  assert.deepEqual(rest, {
    "no-prompt": [""],
    "no-remote": [""],
    "cached-only": [""],
    read: [...CODE, CHECKOUT, state, join(state, "hub")],
    write: [state, join(state, "hub")],
    net: ["127.0.0.1:8080", ...HUB],
    run: ["/usr/bin/nvidia-smi"],
    sys: ["statfs"],
  });
  assert.ok(["PORT", "HF_TOKEN", "SIMPO_HOSTS", "LP_NUM_THREADS"].every((name) => env!.includes(name)));
  assert.ok(!env!.includes("NVIDIA_VISIBLE_DEVICES"));
});

const files: [command: string[], read: string[], write: string[] | undefined][] = [
  [["serve"], ["/nowhere/root", "/nowhere/state", "/nowhere/cache"], ["/nowhere/state", "/nowhere/cache"]],
  [
    ["train", "--quiet", "/job.json"],
    ["/nowhere/root", "/nowhere/state", "/nowhere/cache", "/job.json"],
    ["/nowhere/state", "/nowhere/cache"],
  ],
  [
    ["plan", "job.json"],
    ["/nowhere/root", "/nowhere/state", "/nowhere/cache", join(Deno.cwd(), "job.json")],
    ["/nowhere/cache"],
  ],
  [
    ["score", "--model", "m", "--token-logprobs", "/in", "--chat-template=/t", "/out"],
    ["/nowhere/root", "/nowhere/state", "/nowhere/cache", "/in", "/t"],
    ["/nowhere/cache", "/out"],
  ],
  [
    ["score", "--model", "m", "-", "-"],
    ["/nowhere/root", "/nowhere/state", "/nowhere/cache"],
    ["/nowhere/cache"],
  ],
  // the command itself says what is wrong
  [
    ["score", "--chat-template"],
    ["/nowhere/root", "/nowhere/state", "/nowhere/cache"],
    ["/nowhere/cache"],
  ],
];

for (const [command, read, write] of files) {
  Deno.test(`permissionFlags() lets ${command.join(" ")} at its folders and files`, () => {
    const found = permissions(command, FOLDERS);
    assert.deepEqual([found["read"], found["write"]], [[...CODE, ...read], write]);
  });
}

const hosts: [env: Record<string, string>, net: string[]][] = [
  [{ PORT: "0" }, ["127.0.0.1:0", ...HUB]],
  [{ HOST: "0.0.0.0", PORT: "80" }, ["0.0.0.0:80", ...HUB]],
  [{ HOST: "::" }, ["[::]:8080", ...HUB]],
  [{ HOST: "localhost" }, ["localhost:8080", ...HUB]],
  [{ HF_ENDPOINT: "http://mirror/hf" }, ["127.0.0.1:8080", "mirror:80"]],
  [{ HF_ENDPOINT: "http://[::1]:90", SIMPO_HOSTS: "cdn,*.cdn:443" }, [
    "127.0.0.1:8080",
    "[::1]:90",
    "cdn",
    "*.cdn:443",
  ]],
  [{ SIMPO_HOSTS: "cdn" }, ["127.0.0.1:8080", ...HUB, "cdn"]],
];

for (const [env, net] of hosts) {
  Deno.test(`permissionFlags() lets serve with ${JSON.stringify(env)} at ${net.join(", ")}`, () => {
    assert.deepEqual(permissions(["serve"], env)["net"], net);
    if (!("PORT" in env || "HOST" in env)) {
      assert.deepEqual(permissions(["train", "job.json"], env)["net"], net.slice(1));
    }
  });
}

Deno.test("permissionFlags() gives doctor the drivers' folders and variables, and no host", () => {
  const { read, env, ...rest } = permissions(["doctor"], { VK_DRIVER_FILES: "/a.json:/b.json" });
  assert.deepEqual(Object.keys(rest), ["no-prompt", "no-remote", "cached-only"]);
  assert.ok(["/usr/lib", "/etc/vulkan/icd.d", "/a.json", "/b.json"].every((path) => read!.includes(path)));
  assert.ok(!read!.includes(CHECKOUT));
  assert.ok(["VK_DRIVER_FILES", "NVIDIA_VISIBLE_DEVICES"].every((name) => env!.includes(name)));
});

Deno.test("permissionFlags() gives nothing to what is no command", () => {
  for (const command of [undefined, "help", "constructor"]) {
    assert.deepEqual(permissionFlags(command, [], { get: () => undefined }), [
      "--no-prompt",
      "--no-remote",
      "--cached-only",
    ]);
  }
});

Deno.test("permissionFlags() names a root that is a symbolic link by its real path too", () =>
  inFolder(async (folder) => {
    const real = join(await Deno.realPath(folder), "real");
    const link = join(folder, "link");
    await Deno.mkdir(real);
    await Deno.symlink(real, link);
    const { read } = permissions(["plan", "job.json"], { ...FOLDERS, SIMPO_ROOT: link });
    assert.deepEqual(read!.slice(CODE.length, -3), [link, real]);
  }));

const commas: [command: string[], env: Record<string, string>, message: RegExp][] = [
  [["serve"], { SIMPO_ROOT: "/a,b" }, /^SIMPO_ROOT must be a path without a comma, not "\/a,b"\.$/],
  [["serve"], { SIMPO_STATE: "/a,b" }, /^SIMPO_STATE must be/],
  [["serve"], { SIMPO_CACHE: "/a,b" }, /^SIMPO_CACHE must be/],
  [["train", "/a,b.json"], {}, /^A file's path must be a path without a comma, not "\/a,b\.json"\.$/],
  [["score", "--chat-template", "/a,b", "-", "-"], {}, /^--chat-template must be/],
  [["doctor"], { VK_DRIVER_FILES: "/a,b" }, /^VK_DRIVER_FILES must be/],
];

for (const [command, env, message] of commas) {
  Deno.test(`permissionFlags() refuses a comma in ${Object.keys(env)[0] ?? command.join(" ")}`, () => {
    assert.throws(() => permissions(command, env), (error) => {
      assert.ok(error instanceof InputError);
      assert.match(error.message, message);
      return true;
    });
  });
}

/** Runs the hostile dependency. @param argumentsOf deno's arguments around it */
async function tryAll(
  targets: Targets,
  env: Record<string, string>,
  argumentsOf: (main: readonly string[]) => string[],
): Promise<{ allowed: string[]; refused: string[] }> {
  const main = fileURLToPath(new URL("fixtures/hostile_dependency.ts", import.meta.url));
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: argumentsOf([main, JSON.stringify(targets)]),
    env,
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  assert.notEqual(stdout.length, 0, text.decode(stderr));
  return JSON.parse(text.decode(stdout));
}

/** Makes what the hostile dependency tries itself on. */
async function withTargets(
  work: (targets: Targets, env: Record<string, string>) => Promise<void>,
): Promise<void> {
  await inFolder(async (temporary) => {
    const folder = await Deno.realPath(temporary);
    const at = (name: string) => join(folder, name);
    for (const name of ["real", "state", "cache", "sibling", "files", "home", "code/src"]) {
      await Deno.mkdir(at(name), { recursive: true });
    }
    await Deno.symlink(at("real"), at("root"));
    for (
      const name of [
        "real/file",
        "state/file",
        "cache/file",
        "sibling/secret",
        "sibling/code.js",
        "files/in",
        "files/t",
        "code/src/config.ts",
        "code/deno.json",
      ]
    ) await Deno.writeTextFile(at(name), "");
    const serve = () =>
      Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, () => new Response("ok"));
    await using hub = serve();
    await using other = serve();
    const [port, otherPort] = [0, 0].map((port) => Deno.listen({ port, hostname: "127.0.0.1" })).map(
      (listener) => {
        const { port } = listener.addr;
        listener.close();
        return port;
      },
    );
    const targets: Targets = {
      root: at("root"),
      realRoot: at("real"),
      state: at("state"),
      cache: at("cache"),
      sibling: at("sibling"),
      home: at("home"),
      checkout: at("code"),
      input: at("files/in"),
      output: at("files/out"),
      template: at("files/t"),
      port: port!,
      otherPort: otherPort!,
      hub: `http://127.0.0.1:${hub.addr.port}`,
      otherService: `http://127.0.0.1:${other.addr.port}`,
    };
    await work(targets, {
      SIMPO_ROOT: targets.root,
      SIMPO_STATE: targets.state,
      SIMPO_CACHE: targets.cache,
      SIMPO_HOSTS: "",
      HOST: "127.0.0.1",
      PORT: `${port}`,
      HF_ENDPOINT: targets.hub,
      AWS_SECRET_ACCESS_KEY: "secret",
      NO_COLOR: "1",
    });
  });
}

/** What each command may do of all that the hostile dependency tries. */
const ALLOWED: Record<Command, { args: (targets: Targets) => string[]; allowed: string[] }> = {
  serve: {
    args: () => [],
    allowed: [
      "read the root",
      "read the root by its real path",
      "read the state",
      "write the state",
      "read the cache",
      "write the cache",
      "read the worker's code",
      "listen on PORT",
      "fetch from the hub",
      "read a setting",
      "run nvidia-smi",
    ],
  },
  train: {
    args: ({ input }) => [input],
    allowed: [
      "read the root",
      "read the root by its real path",
      "read the state",
      "write the state",
      "read the cache",
      "write the cache",
      "read the input",
      "read the worker's code",
      "fetch from the hub",
      "read a setting",
      "run nvidia-smi",
    ],
  },
  plan: {
    args: ({ input }) => [input],
    allowed: [
      "read the root",
      "read the root by its real path",
      "read the state",
      "read the cache",
      "write the cache",
      "read the input",
      "read the worker's code",
      "fetch from the hub",
      "read a setting",
      "run nvidia-smi",
    ],
  },
  inspect: {
    args: ({ input }) => [input],
    allowed: [
      "read the root",
      "read the root by its real path",
      "read the state",
      "read the cache",
      "write the cache",
      "read the input",
      "read the worker's code",
      "fetch from the hub",
      "read a setting",
    ],
  },
  score: {
    args: ({ input, output, template }) => ["--model", "m", "--chat-template", template, input, output],
    allowed: [
      "read the root",
      "read the root by its real path",
      "read the state",
      "read the cache",
      "write the cache",
      "read the input",
      "write the output",
      "read the template",
      "read the worker's code",
      "fetch from the hub",
      "read a setting",
    ],
  },
  doctor: {
    args: () => [],
    allowed: [
      "read the worker's code",
      "list the drivers",
      "read a setting",
      "read how the driver was passed in",
    ],
  },
};

for (const [command, { args, allowed }] of Object.entries(ALLOWED)) {
  Deno.test(`a dependency of ${command} is refused whatever ${command} does not need`, () =>
    withTargets(async (targets, env) => {
      const own = { ...targets, home: Deno.env.get("HOME") ?? targets.home, checkout: CHECKOUT };
      const found = await tryAll(own, env, (main) => commandArguments([command, ...args(own)], env, main));
      assert.deepEqual(found.allowed, allowed);
      assert.ok(found.refused.length > 30);
    }));

  Deno.test(`a dependency of ${command} gives a Worker no more permissions than it has`, () =>
    withTargets(async (targets, env) => {
      const code = "Deno.writeTextFileSync('/dev/stdout', Deno.readTextFileSync('/etc/passwd'))";
      await Deno.writeTextFile(
        join(targets.sibling, "worker.js"),
        `const worker = new Worker("data:text/javascript,${encodeURIComponent(code)}", {
          type: "module", deno: { permissions: { read: true, write: true } },
        });
        worker.onerror = () => Deno.exit(3);`,
      );
      const { stdout, stderr, code: exit } = await new Deno.Command(Deno.execPath(), {
        args: commandArguments([command, ...args(targets)], env, [join(targets.sibling, "worker.js")]),
        env,
        stdin: "null",
      }).output();
      assert.notEqual(exit, 0);
      assert.equal(stdout.length, 0);
      assert.match(new TextDecoder().decode(stderr), /--unstable-worker-options/);
    }));
}

Deno.test("the hostile dependency is refused nothing where everything is allowed", () =>
  withTargets(async (targets, env) => {
    const found = await tryAll(targets, env, (main) => ["run", "--allow-all", ...main]);
    assert.deepEqual(found.refused, []);
  }));

Deno.test("a dependency tells no registry a name by importing a package of that name", () =>
  inFolder(async (folder) => {
    const requests: string[] = [];
    await using registry = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, ({ url }) => {
      requests.push(new URL(url).pathname);
      return new Response(null, { status: 404 });
    });
    const main = join(folder, "main.js");
    await Deno.writeTextFile(main, 'await import("npm:@" + "the/secret").catch(() => {});');
    const env = { NPM_CONFIG_REGISTRY: `http://127.0.0.1:${registry.addr.port}` };
    const run = (args: string[]) => new Deno.Command(Deno.execPath(), { args, env, stdin: "null" }).output();
    for (const command of Object.keys(ALLOWED)) {
      assert.equal((await run(commandArguments([command], env, [main]))).code, 0);
    }
    assert.deepEqual(requests, []);
    await run(["run", "--allow-all", main]);
    assert.deepEqual([...new Set(requests)], ["/@the%2fsecret"]);
  }));
