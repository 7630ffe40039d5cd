/** @azure/app-configuration against an origin that misbehaves: see python/hazards.py. */
import { AppConfigurationClient } from "@azure/app-configuration";
import assert from "node:assert/strict";
import {
  collect, connectionString, count, endpoint, equal, failsWith, observing, runAll, scenario, withFaults,
} from "./scenario.js";

const client = new AppConfigurationClient(connectionString, { allowInsecureConnection: true });
const put = (key, value = "v") => client.setConfigurationSetting({ key, value });
const direct = { only: "emulator" };
const behindSidecar = { only: "sidecar" };

/** The status of each page that the client asks for. */
async function pageStatuses(keyFilter, pageEtags) {
  const pages = await collect(client.listConfigurationSettings({ keyFilter, pageEtags }).byPage());
  return pages.map((page) => Number(page._response.status));
}

async function twoPages(p) {
  for (let number = 0; number < 101; number++) await put(p + String(number).padStart(3, "0"));
  const pages = await collect(client.listConfigurationSettings({ keyFilter: p + "*" }).byPage());
  await put(p + "100", "changed");
  return pages.map((page) => page.etag);
}

scenario("a conditional get costs a 304", async (p) => {
  const written = await put(p + "a");
  const requests = await count();
  equal((await client.getConfigurationSetting(written, { onlyIfChanged: true })).statusCode, 304);
  equal([await requests("GET /kv/{key}"), await requests("GET /kv/{key}", 304)], [1, 1]);
}, direct);

scenario("429 with retry-after-ms is retried", async (p) => {
  await put(p + "a", "1");
  const throttle = { path: `/kv/${p}*`, count: 2, do: { kind: "throttle", retry_after: "50ms" } };
  await withFaults([throttle], async () => {
    equal((await client.getConfigurationSetting({ key: p + "a" })).value, "1");
  });
});

scenario("503 with retry-after-ms is retried", async (p) => {
  const unavailable = { path: `/kv/${p}*`, count: 1, do: { kind: "unavailable", retry_after: "20ms" } };
  await withFaults([unavailable], async () => equal((await put(p + "a", "1")).value, "1"));
});

scenario("a bare 429 is not retried by this client", async (p) => {
  await put(p + "a", "1");
  const bare = { path: `/kv/${p}*`, count: 1, do: { kind: "throttle", retry_after: "none" } };
  await withFaults([bare], () => failsWith(429, client.getConfigurationSetting({ key: p + "a" })));
}, direct);

scenario("a lost answer turns a conditional write into 412", async (p) => {
  const first = await put(p + "a", "1");
  const lost = { kind: "write", answer: "unavailable", retry_after: "10ms" };
  await withFaults([{ method: ["PUT"], path: `/kv/${p}*`, count: 1, do: lost }], () =>
    failsWith(412, client.setConfigurationSetting({ ...first, value: "2" }, { onlyIfUnchanged: true })));
  equal((await client.getConfigurationSetting({ key: p + "a" })).value, "2");
}, direct);

scenario("a 304 without Link ends the paging", async (p) => {
  const etags = await twoPages(p);
  equal(await pageStatuses(p + "*", etags), [304, 200]);
  await withFaults([{ do: { kind: "no-link-on-304" } }], async () => equal(await pageStatuses(p + "*", etags), [304]));
}, direct);

scenario("a 304 without Link is given its Link again", async (p) => {
  const etags = await twoPages(p);
  await withFaults([{ do: { kind: "no-link-on-304" } }], async () =>
    equal(await pageStatuses(p + "*", etags), [304, 200]));
}, behindSidecar);

const unparseable = ["nosn=AAAA", "c=x;sn=9;foo=bar"].map((value) => ({ kind: "malformed-sync-token", value }));

scenario("a malformed token makes this client throw", async (p) => {
  await put(p + "a", "1");
  for (const fault of unparseable) {
    await withFaults([{ do: fault }], () => assert.rejects(client.getConfigurationSetting({ key: p + "a" })));
  }
}, direct);

scenario("a malformed token of the origin never reaches the client", async (p) => {
  for (const fault of [...unparseable, { kind: "no-sync-token" }, { kind: "sync-token-lines" }]) {
    await withFaults([{ do: fault }], async () => {
      await put(p + "a", fault.kind + fault.value);
      equal((await client.getConfigurationSetting({ key: p + "a" })).value, fault.kind + fault.value);
    });
  }
}, behindSidecar);

scenario("an answer without a token wipes the tokens of this client", async (p) => {
  await put(p + "a", "1");
  const { options, seen } = observing();
  const observed = new AppConfigurationClient(connectionString, options);
  await observed.getConfigurationSetting({ key: p + "a" });
  await observed.getConfigurationSetting({ key: p + "a" });
  assert.ok(seen.sent, "a token is carried from one call to the next");
  await withFaults([{ do: { kind: "no-sync-token" } }], () => observed.getConfigurationSetting({ key: p + "a" }));
  await observed.getConfigurationSetting({ key: p + "a" });
  equal(seen.sent, undefined);
}, direct);

scenario("http is refused unless asked for", async (p) => {
  await assert.rejects(
    new AppConfigurationClient(connectionString).getConfigurationSetting({ key: p + "a" }),
    /allowInsecureConnection/,
  );
});

scenario("a token credential is not sent over http", async (p) => {
  const credential = { getToken: async () => ({ token: "not-a-secret", expiresOnTimestamp: 4102444800000 }) };
  const requests = await count();
  const refused = new AppConfigurationClient(endpoint, credential, { allowInsecureConnection: true });
  await assert.rejects(refused.getConfigurationSetting({ key: p + "a" }));
  equal(await requests("GET /kv/{key}"), 0);
});

scenario("a wrong secret is refused", async (p) => {
  const wrong = connectionString.replace(/Secret=.*/, "Secret=d3Jvbmc=");
  const stranger = new AppConfigurationClient(wrong, { allowInsecureConnection: true });
  await failsWith(401, stranger.getConfigurationSetting({ key: p + "a" }));
}, direct);

await runAll();
