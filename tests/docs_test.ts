/** What the documentation says of the code, held to the code. */
import assert from "node:assert/strict";
import { basename, dirname, join, normalize } from "node:path";
import { CHECKOUT } from "../src/config.ts";

const read = (path: string) => Deno.readTextFileSync(join(CHECKOUT, path));

/** Every file of ours under a folder, by its path from the checkout. */
function filesUnder(folder: string): string[] {
  return [...Deno.readDirSync(join(CHECKOUT, folder))].flatMap(({ name, isDirectory }) =>
    isDirectory ? filesUnder(`${folder}/${name}`) : [`${folder}/${name}`]
  );
}

/** A file's code, without comments. */
function codeOf(path: string): string {
  return read(path).replaceAll(/\/\*.*?\*\//gs, "").replaceAll(/(?<=^|[\s;{}(,])\/\/.*$/gm, "");
}

/** The files that a module imports or hands on, now or later. */
function importsOf(path: string): string[] {
  const found = codeOf(path).matchAll(/(?:from |import\(?\s*|new URL\()"(\.[^"]+)"/g);
  return Array.from(found, ([, to]) => normalize(join(dirname(path), to!)).replaceAll("\\", "/"));
}

/** Whether a module imports another, itself or by a folder's mod.ts. */
function imports(from: string, to: string): boolean {
  const direct = importsOf(from);
  return direct.includes(to) ||
    direct.some((path) => path.endsWith("/mod.ts") && importsOf(path).includes(to));
}

/** A stop on a walk: by what name the one before it is joined to it. */
interface Stop {
  readonly file: string;
  readonly name: string;
}

/** Whether a file defines a name: a function, a class, a constant, a method or a field. */
function defines({ file, name }: Stop): boolean {
  const word = name.replaceAll("$", "\\$");
  return [
    `^(?:export )?(?:async )?(?:function\\*?|class|const|interface|type) ${word}\\b`,
    `^ +(?:(?:static|async|get|readonly|override) )*\\*?${word}(?:<[^>{]*>)?(?:\\(.*\\{$|\\($|\\??: | = )`,
  ].some((pattern) => new RegExp(pattern, "m").test(codeOf(file)));
}

/** Why a stop is not reached from another; null where it is. */
function gap(from: Stop, to: Stop): string | null {
  const { name } = to;
  // What is loaded as a whole: a kernel's text, a thread's code.
  if (/\.wgsl$|\/worker\.ts$/.test(to.file)) {
    return imports(from.file, to.file) ? null : `${from.file} does not import ${to.file}`;
  }
  // A call between threads has its name in both.
  if (name.startsWith('"')) {
    const word = name.slice(1, -1);
    const missing = [from, to].find(({ file }) =>
      !new RegExp(`"${word}"|^ +${word}: `, "m").test(codeOf(file))
    );
    return missing === undefined ? null : `${missing.file} knows no call ${name}`;
  }
  if (!defines(to)) return `${to.file} defines no ${name}`;
  const exported = new RegExp(`^export (?:async )?(?:function\\*?|class|const) ${name}\\b`, "m");
  const isOwn = from.file === to.file;
  const use = isOwn || exported.test(codeOf(to.file)) ? `(?<![\\w"])${name}\\b` : `\\.${name}\\b`;
  const uses = codeOf(from.file).match(new RegExp(use, "g")) ?? [];
  if (uses.length === (isOwn ? 1 : 0)) return `${from.file} does not use ${name}`;
  if (!isOwn && exported.test(codeOf(to.file)) && !imports(from.file, to.file)) {
    return `${from.file} uses ${name} and does not import ${to.file}`;
  }
  return null;
}

/** The walks of a page: by their headings the rows of a table of files and names. */
function walksOf(page: string): Map<string, Stop[]> {
  const walks = new Map<string, Stop[]>();
  for (const section of page.split(/^### /m).slice(1)) {
    const rows = section.matchAll(/^\| *\[?`([^`]+\.(?:ts|wgsl))`(?:\]\([^)]*\))? *\| *`([^`]+)` *\|/gm);
    const stops = Array.from(rows, ([, file, name]) => ({ file: file!, name: name! }));
    if (stops.length > 0) walks.set(section.split("\n")[0]!, stops);
  }
  return walks;
}

const FILES = ["src", "routes", "shaders"].flatMap(filesUnder).concat("main.ts", "launcher.ts");

/** What is wrong with a walk: stops that are gone, or that no stop before them leads to. */
function faultsOf(stops: readonly Stop[]): string[] {
  const gone = stops.filter(({ file }) => !FILES.includes(file)).map(({ file }) => {
    const others = FILES.filter((other) => basename(other) === basename(file));
    return `${file} is not there${others.length > 0 ? `; there is ${others.join(", ")}` : ""}`;
  });
  if (gone.length > 0) return gone;
  return stops.flatMap((stop, i) => {
    if (i === 0) return defines(stop) ? [] : [`${stop.file} defines no ${stop.name}`];
    const gaps = stops.slice(0, i).reverse().map((from) => gap(from, stop));
    return gaps.includes(null) ? [] : [`${stop.file} \`${stop.name}\`: ${gaps[0]}`];
  });
}

const PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ...filesUnder("docs")];
const ARCHITECTURE = read("docs/architecture.md");

for (const [title, stops] of walksOf(ARCHITECTURE)) {
  Deno.test(`docs/architecture.md: ${title}: each stop is called from one before it`, () => {
    assert.deepEqual(faultsOf(stops), []);
  });
}

Deno.test("docs/architecture.md walks from POST /score to attention and back, and from a row to AdamW", () => {
  const walks = [...walksOf(ARCHITECTURE).values()].map((stops) => stops.map(({ file }) => file));
  assert.equal(walks.length, 2);
  for (const file of ["routes/score.ts", "shaders/attention_tiled.wgsl"]) {
    assert.ok(walks[0]!.includes(file), file);
  }
  assert.equal(walks[0]!.at(-1), "routes/score.ts");
  assert.equal(walks[1]!.at(-1), "shaders/adamw.wgsl");
});

/** The rooms that the drawing lets each room import, over others too. */
function drawnImports(page: string): Map<string, Set<string>> {
  const [, drawing] = /```mermaid\n([^]*?)```/.exec(page)!;
  const folders = new Map(
    Array.from(drawing!.matchAll(/(\w+)\["([\w/]+):/g), ([, id, folder]) => [id!, folder!]),
  );
  const arrows = Array.from(
    drawing!.matchAll(/(\w+)(?:\[".*?"\])? --> (\w+)/g),
    ([, from, to]) => [from!, to!],
  );
  const below = (id: string): string[] =>
    arrows.flatMap(([from, to]) => from === id ? [to!, ...below(to!)] : []);
  return new Map(
    Array.from(folders, ([id, folder]) => [folder, new Set(below(id).map((id) => folders.get(id)!))]),
  );
}

Deno.test("docs/architecture.md draws every import between rooms, or names it", () => {
  const drawn = drawnImports(ARCHITECTURE);
  const roomOf = (file: string) => [...drawn.keys()].find((folder) => file.startsWith(`${folder}/`));
  const named = new Set(
    Array.from(ARCHITECTURE.matchAll(/^ *\| `(\S+)` *\| `(\S+)` *\|/gm), ([, from, to]) => `${from} ${to}`),
  );
  const against = FILES.filter((file) => file.endsWith(".ts")).flatMap((file) => {
    const room = roomOf(file);
    if (room === undefined) return [];
    return importsOf(file).filter((to) => {
      const other = roomOf(to);
      return other !== undefined && other !== room && !drawn.get(room)!.has(other);
    }).map((to) => `${file} ${to}`);
  });
  assert.deepEqual([...new Set(against)].sort(), [...named].sort());
});

Deno.test("faultsOf() finds a name that is gone, a call that is gone, an import that is gone", () => {
  const [scoring] = walksOf(ARCHITECTURE).values();
  const changed = (index: number, stop: Partial<Stop>) =>
    faultsOf(scoring!.map((old, i) => i === index ? { ...old, ...stop } : old)).length;
  const app = scoring!.findIndex(({ file }) => file === "routes/app.ts");
  assert.equal(changed(app, {}), 0);
  assert.notEqual(changed(app, { name: "makeApp" }), 0);
  assert.deepEqual(faultsOf([{ file: "routes/spec.ts", name: "x" }]), [
    "routes/spec.ts is not there; there is src/jobs/spec.ts",
  ]);
  assert.notEqual(changed(app, { file: "src/jobs/runner.ts", name: "JobRunner.nothing" }), 0);
  assert.deepEqual(
    faultsOf([{ file: "routes/app.ts", name: "createApp" }, { file: "shaders/adamw.wgsl", name: "x" }]),
    [
      "shaders/adamw.wgsl `x`: routes/app.ts does not import shaders/adamw.wgsl",
    ],
  );
  assert.deepEqual(
    faultsOf([{ file: "routes/app.ts", name: "createApp" }, { file: "src/training/job.ts", name: "train" }]),
    ["src/training/job.ts `train`: routes/app.ts uses train and does not import src/training/job.ts"],
  );
});

Deno.test("files that the documentation names by a link are there", () => {
  for (const page of PAGES) {
    for (const [, link] of read(page).matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
      const path = join(CHECKOUT, dirname(page), link!);
      assert.doesNotThrow(() => Deno.statSync(path), `${page} links to ${link}, which is not there`);
    }
  }
});

Deno.test("every @example has a title, and asserts", () => {
  for (const path of [...filesUnder("src"), ...filesUnder("routes")].filter((path) => path.endsWith(".ts"))) {
    for (const [, title, code] of read(path).matchAll(/@example(.*)\n([^]*?)\*\//g)) {
      assert.notEqual(title!.trim(), "", `an example of ${path} has no title`);
      assert.match(code!, /\bassert\b/, `${path}: ${title} asserts nothing`);
    }
  }
});

Deno.test("one version of Deno is named everywhere", () => {
  const [, version] = /deno@(\d+\.\d+\.\d+)/.exec(read("README.md"))!;
  for (const file of ["README.md", "CONTRIBUTING.md", "Dockerfile", ".ci/run", ".github/workflows/ci.yml"]) {
    const named = read(file).matchAll(/(?:deno@|deno:debian-|deno-version: |Deno )(\d+\.\d+\.\d+)/g);
    const versions = [...new Set(Array.from(named, ([, found]) => found))];
    assert.deepEqual(versions, [version], file);
  }
});

Deno.test("every task says what it does, and every task that a page names is there", () => {
  const tasks = JSON.parse(read("deno.json")).tasks as Record<string, { readonly description?: string }>;
  for (const [name, { description }] of Object.entries(tasks)) {
    assert.ok(description, `${name} has no description`);
  }
  for (const page of PAGES) {
    for (const [, name] of read(page).matchAll(/deno task (?:-q )?([a-z]+)\b/g)) {
      assert.ok(name! in tasks, `${page} names the task ${name}, which is not there`);
    }
  }
});
