import assert from "node:assert/strict";
import { join } from "node:path";
import { hostPathsHidden } from "../src/host_paths.ts";
import { inFolder } from "./helpers/folder.ts";
import { testService } from "./helpers/service.ts";

const hide = hostPathsHidden({ root: "/srv/data", state: "/srv/data/state", cache: "/var/cache/simpo" });

const texts: [text: string, shown: string][] = [
  [
    "No such file: open '/srv/data/model/tokenizer.json'",
    "No such file: open 'model/tokenizer.json'",
  ],
  ["/srv/data/a, /srv/data//b", "a, b"],
  ["/srv/data", "."],
  ["in /srv/data/.", "in ."],
  ["/srv/data/state/jobs/job-1: no room", "SIMPO_STATE/jobs/job-1: no room"],
  ["/srv/data/state: no room", "SIMPO_STATE: no room"],
  ["file:///var/cache/simpo/models/a", "SIMPO_CACHE/models/a"],
  [
    "/srv/database/a and /srv/data-1 and /opt/srv/data/a",
    "/srv/database/a and /srv/data-1 and /opt/srv/data/a",
  ],
  ["org/srv/data/a", "org/srv/data/a"],
];

for (const [text, shown] of texts) {
  Deno.test(`hostPathsHidden() makes ${JSON.stringify(text)} ${JSON.stringify(shown)}`, () => {
    assert.equal(hide(text), shown);
    assert.equal(JSON.parse(hide(JSON.stringify(`a\n${text}`))), `a\n${shown}`);
  });
}

Deno.test("hostPathsHidden() leaves a text as it is where the root is the file system's", () => {
  const hide = hostPathsHidden({ root: "/", state: "/state", cache: "/state/hub" });
  assert.equal(hide("open '/models/a' and '/state/jobs'"), "open '/models/a' and 'SIMPO_STATE/jobs'");
});

Deno.test("hostPathsHidden() knows the real path of a folder that a link names", () =>
  inFolder(async (folder) => {
    await Deno.mkdir(join(folder, "real"));
    await Deno.symlink("real", join(folder, "link"));
    const link = join(folder, "link");
    const hide = hostPathsHidden({ root: link, state: join(link, "state"), cache: join(link, "hub") });
    assert.equal(hide(`${join(folder, "real", "a")} ${join(link, "b")}`), "a b");
  }));

Deno.test("answers, events and errors of jobs name no path of this machine", async () => {
  await using service = await testService({
    beforeStep: () => Promise.reject(new Error(`No room: write '${service.root}/state/jobs/a'`)),
  });
  const { root, app } = service;
  const job = { model: "model", dataset: { path: "rows.jsonl" } };
  const { body: { id } } = await service.post("/train", job);
  await service.until(id, "failed");
  const score = { model: "model", prompt: "a", candidates: ["b"] };
  await Deno.remove(join(root, "model", "config.json"));
  const answers = [
    await service.get(`/train/${id}`),
    await service.get("/train"),
    await service.get(`/train/${id}/events`),
    await service.post("/train", job),
    await service.post("/score", { ...score, model: "nowhere" }),
    await service.post("/score", { ...score, model: `${root}/model` }),
    await service.get(`/train/${id}/adapter`),
  ];
  for (const { body } of answers) assert.ok(!JSON.stringify(body).includes(root), JSON.stringify(body));
  assert.equal(answers[0]!.body.error.message, "No room: write 'SIMPO_STATE/jobs/a'");
  assert.match(answers[2]!.body, /"message":"No room: write 'SIMPO_STATE\/jobs\/a'"/);
  assert.equal((await app.request("/livez")).status, 200);
});
