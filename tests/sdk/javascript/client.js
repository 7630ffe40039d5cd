/** @azure/app-configuration: every operation of the client against an App Configuration origin. */
import { AppConfigurationClient, featureFlagContentType, featureFlagPrefix } from "@azure/app-configuration";
import assert from "node:assert/strict";
import { access, collect, equal, failsWith, pause, runAll, scenario } from "./scenario.js";

const client = new AppConfigurationClient(...access, { allowInsecureConnection: true });
const put = (key, value = "v", more = {}) => client.setConfigurationSetting({ key, value, ...more });
const statusesOf = (pages) => pages.map((page) => Number(page._response.status));
const named = (settings) => settings.map(({ key, label }) => [key, label ?? null]);

scenario("get with every field", async (p) => {
  const written = await put(p + "a", "héllo ✓", { label: "prod", contentType: "text/plain", tags: { env: "dev" } });
  const got = await client.getConfigurationSetting({ key: p + "a", label: "prod" });
  equal([got.key, got.label, got.value], [p + "a", "prod", "héllo ✓"]);
  equal([got.contentType, got.tags, got.isReadOnly], ["text/plain", { env: "dev" }, false]);
  equal([got.etag, got.lastModified], [written.etag, written.lastModified]);
});

scenario("keys with reserved characters that this client does not mangle", async (p) => {
  for (const [key, label] of [["a/b c*é", "L,*\\x"], ["x:y;z!'()", "a b"], ["日本", undefined]]) {
    await put(p + key, key, { label });
    equal((await client.getConfigurationSetting({ key: p + key, label })).value, key);
  }
});

scenario("get a missing key", async (p) => {
  await failsWith(404, client.getConfigurationSetting({ key: p + "missing" }));
});

scenario("get without a label in both spellings", async (p) => {
  await put(p + "a", "none");
  await put(p + "a", "prod", { label: "prod" });
  equal((await client.getConfigurationSetting({ key: p + "a" })).value, "none");
  equal((await client.getConfigurationSetting({ key: p + "a", label: "\0" })).value, "none");
});

scenario("get conditionally", async (p) => {
  const first = await put(p + "a", "1");
  const unchanged = await client.getConfigurationSetting(first, { onlyIfChanged: true });
  equal([unchanged.statusCode, unchanged.value], [304, undefined]);
  const second = await put(p + "a", "2");
  equal((await client.getConfigurationSetting(first, { onlyIfChanged: true })).value, "2");
  // The client's type says that a reading takes onlyIfChanged alone; a stale If-Match is sent all the same by writes.
  equal((await client.getConfigurationSetting(second, { onlyIfChanged: true })).statusCode, 304);
});

scenario("list with every filter", async (p) => {
  await put(p + "a1");
  await put(p + "a1", "v", { label: "prod", tags: { env: "prod", team: "x" } });
  await put(p + "a2", "v", { label: "dev", tags: { env: "dev", team: "x", empty: "" } });
  await put(p + "b1", "v", { label: "prod-eu", tags: { env: "prod" } });
  await put(p + "c,*\\", "v", { label: "l,*\\" });
  const listed = async (filters) => named(await collect(client.listConfigurationSettings(filters)));
  const [a1, a1Prod, a2, b1, odd] = [
    [p + "a1", null], [p + "a1", "prod"], [p + "a2", "dev"], [p + "b1", "prod-eu"], [p + "c,*\\", "l,*\\"],
  ];
  const keyFilter = p + "*";
  equal(await listed({ keyFilter }), [a1, a1Prod, a2, b1, odd]);
  equal(await listed({ keyFilter: p + "a1" }), [a1, a1Prod]);
  equal(await listed({ keyFilter: p + "a*" }), [a1, a1Prod, a2]);
  equal(await listed({ keyFilter: `${p}a1,${p}b1` }), [a1, a1Prod, b1]);
  equal(await listed({ keyFilter, labelFilter: "\0" }), [a1]);
  equal(await listed({ keyFilter, labelFilter: "prod" }), [a1Prod]);
  equal(await listed({ keyFilter, labelFilter: "prod*" }), [a1Prod, b1]);
  equal(await listed({ keyFilter, labelFilter: "dev,\0" }), [a1, a2]);
  equal(await listed({ keyFilter: p + "c\\,\\*\\\\", labelFilter: "l\\,\\*\\\\" }), [odd]);
  equal(await listed({ keyFilter, tagsFilter: ["env=prod"] }), [a1Prod, b1]);
  equal(await listed({ keyFilter, tagsFilter: ["env=prod", "team=x"] }), [a1Prod]);
  equal(await listed({ keyFilter, tagsFilter: ["empty="] }), [a2]);
  equal(await listed({ keyFilter: p + "none*" }), []);
});

scenario("list refuses a malformed filter", async () => {
  for (const filters of [{ keyFilter: "a*b" }, { keyFilter: "a,b,c,d,e,f" }, { tagsFilter: ["a=b=c"] }]) {
    await failsWith(400, collect(client.listConfigurationSettings(filters)));
  }
});

scenario("list selected fields", async (p) => {
  await put(p + "a", "1", { label: "prod", tags: { x: "y" } });
  const fields = ["key", "value", "isReadOnly"];
  const [only] = await collect(client.listConfigurationSettings({ keyFilter: p + "*", fields }));
  equal([only.key, only.value, only.isReadOnly, only.etag, only.label], [p + "a", "1", false, undefined, undefined]);
});

scenario("list by page with ETags", async (p) => {
  for (let number = 0; number < 250; number++) await put(p + String(number).padStart(3, "0"), "1");
  const pages = (pageEtags) => collect(client.listConfigurationSettings({ keyFilter: p + "*", pageEtags }).byPage());
  const first = await pages();
  equal(first.map((page) => page.items.length), [100, 100, 50]);
  const etags = first.map((page) => page.etag);
  equal(new Set(etags).size, 3);
  const statuses = async () => statusesOf(await pages(etags));
  equal(await statuses(), [304, 304, 304]);
  await put(p + "249", "2");
  equal(await statuses(), [304, 304, 200]);
  await put(p + "000", "2");
  equal(await statuses(), [200, 304, 200]);

  const checked = await collect(client.checkConfigurationSettings({ keyFilter: p + "*" }).byPage());
  equal(checked.length, 3);
  equal(checked[1].etag.replaceAll('"', ""), etags[1]);
  const pageEtags = (await pages()).map((page) => page.etag);
  const again = await collect(client.checkConfigurationSettings({ keyFilter: p + "*", pageEtags }).byPage());
  equal(statusesOf(again), [304, 304, 304]);
});

scenario("set and set again", async (p) => {
  const first = await put(p + "a", "1", { tags: { x: "y" } });
  equal((await put(p + "a", "1", { tags: { x: "y" } })).etag, first.etag);
  assert.notEqual((await put(p + "a", "2", { tags: { x: "y" } })).etag, first.etag);
  const key = featureFlagPrefix + p + "flag";
  const value = { enabled: true, conditions: { clientFilters: [] }, id: p + "flag" };
  const flag = await client.setConfigurationSetting({ key, contentType: featureFlagContentType, value });
  equal(JSON.parse(flag.value).enabled, true);
});

scenario("set more than the size limit", async (p) => {
  await failsWith(413, put(p + "large", "x".repeat(11 * 1024)));
});

scenario("add", async (p) => {
  equal((await client.addConfigurationSetting({ key: p + "a", value: "1" })).value, "1");
  await failsWith(412, client.addConfigurationSetting({ key: p + "a", value: "2" }));
});

scenario("set if match", async (p) => {
  const first = await put(p + "a", "1");
  const onlyIfUnchanged = true;
  const second = await client.setConfigurationSetting({ ...first, value: "2" }, { onlyIfUnchanged });
  equal(second.value, "2");
  await failsWith(412, client.setConfigurationSetting({ ...first, value: "3" }, { onlyIfUnchanged }));
  equal((await client.getConfigurationSetting({ key: p + "a" })).etag, second.etag);
});

scenario("delete", async (p) => {
  const written = await put(p + "a", "1");
  equal((await client.deleteConfigurationSetting({ key: p + "a" })).statusCode, 200);
  equal((await client.deleteConfigurationSetting({ key: p + "a" })).statusCode, 204);
  await failsWith(404, client.getConfigurationSetting({ key: p + "a" }));
  const again = await put(p + "a", "2");
  await failsWith(412, client.deleteConfigurationSetting(written, { onlyIfUnchanged: true }));
  equal((await client.deleteConfigurationSetting(again, { onlyIfUnchanged: true })).statusCode, 200);
});

scenario("lock and unlock", async (p) => {
  const written = await put(p + "a", "1");
  const locked = await client.setReadOnly(written, true);
  equal(locked.isReadOnly, true);
  assert.notEqual(locked.etag, written.etag);
  equal((await client.setReadOnly(locked, true)).etag, locked.etag);
  await failsWith(409, put(p + "a", "2"));
  await failsWith(409, client.deleteConfigurationSetting({ key: p + "a" }));
  const unlocked = await client.setReadOnly(locked, false, { onlyIfUnchanged: true });
  equal(unlocked.isReadOnly, false);
  await failsWith(412, client.setReadOnly(locked, true, { onlyIfUnchanged: true }));
  equal((await put(p + "a", "2")).value, "2");
  await failsWith(404, client.setReadOnly({ key: p + "missing" }, true));
});

scenario("revisions, newest first", async (p) => {
  for (const value of ["1", "2", "3"]) await put(p + "a", value, { label: "prod", tags: { turn: value } });
  await client.deleteConfigurationSetting({ key: p + "a", label: "prod" });
  const values = async (filters) => (await collect(client.listRevisions(filters))).map(({ value }) => value);
  equal(await values({ keyFilter: p + "a" }), ["3", "2", "1"]);
  equal(await values({ keyFilter: p + "*", tagsFilter: ["turn=2"] }), ["2"]);
  equal(await values({ keyFilter: p + "a", labelFilter: "\0" }), []);
});

scenario("labels", async (p) => {
  for (const label of [p + "1", p + "2", "other" + p]) await put(p + "a", "v", { label });
  const names = async (nameFilter) => (await collect(client.listLabels({ nameFilter }))).map(({ name }) => name);
  equal(await names(p + "*"), [p + "1", p + "2"]);
  equal(await names(p + "2"), [p + "2"]);
});

scenario("snapshots", async (p) => {
  for (const key of ["a", "b"]) await put(p + key, "before", { label: "prod" });
  const name = p.slice(0, -1);
  const filters = [{ keyFilter: p + "*", labelFilter: "prod" }];
  const snapshot = { name, filters, retentionPeriodInSeconds: 3600, tags: { x: "y" } };
  const poller = await client.beginCreateSnapshot(snapshot, { updateIntervalInMs: 100 });
  const created = await poller.pollUntilDone();
  equal([created.name, created.status, created.itemCount], [name, "ready", 2]);
  equal([created.retentionPeriodInSeconds, created.tags], [3600, { x: "y" }]);
  await put(p + "a", "after", { label: "prod" });
  const content = await collect(client.listConfigurationSettingsForSnapshot(name));
  equal(content.map(({ key, value }) => [key, value]), [[p + "a", "before"], [p + "b", "before"]]);
  await failsWith(409, client.beginCreateSnapshotAndWait(snapshot, { updateIntervalInMs: 100 }));

  const ready = await client.getSnapshot(name);
  equal((await client.archiveSnapshot(name, { etag: ready.etag })).status, "archived");
  const listed = async (statusFilter) =>
    (await collect(client.listSnapshots({ nameFilter: name, statusFilter }))).map((each) => each.name);
  equal([await listed(["archived"]), await listed(["ready"])], [[name], []]);
  await failsWith(412, client.recoverSnapshot(name, { etag: ready.etag }));
  equal((await client.recoverSnapshot(name)).status, "ready");
  await failsWith(404, client.getSnapshot(name + "-missing"));
});

scenario("time travel", async (p) => {
  await put(p + "a", "before");
  await pause(50);
  const acceptDateTime = new Date();
  await pause(1100);
  await put(p + "a", "after");
  await put(p + "b", "after");
  equal((await client.getConfigurationSetting({ key: p + "a" }, { acceptDateTime })).value, "before");
  const past = await collect(client.listConfigurationSettings({ keyFilter: p + "*", acceptDateTime }));
  equal(past.map(({ key, value }) => [key, value]), [[p + "a", "before"]]);
  equal((await client.getConfigurationSetting({ key: p + "a" })).value, "after");
  await failsWith(404, client.getConfigurationSetting({ key: p + "b" }, { acceptDateTime }));
});

await runAll();
