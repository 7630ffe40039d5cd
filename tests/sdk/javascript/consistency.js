/** @azure/app-configuration against a store whose replicas lag by half a minute: see python/consistency.py. */
import { AppConfigurationClient } from "@azure/app-configuration";
import { collect, connectionString, equal, failsWith, observing, runAll, scenario } from "./scenario.js";

const { options, seen } = observing();
const client = new AppConfigurationClient(connectionString, options);
const newClient = () => new AppConfigurationClient(connectionString, { allowInsecureConnection: true });
const get = (from, key) => from.getConfigurationSetting({ key });
const direct = { only: "emulator" };
const behindSidecar = { only: "sidecar" };

/** Sets a key-value; the token that the answer carries. */
async function put(key, value) {
  await client.setConfigurationSetting({ key, value });
  return seen.received;
}

scenario("a client reads its own writes", async (p) => {
  const tokens = new Set();
  for (let turn = 0; turn < 20; turn++) {
    tokens.add(await put(p + "a", String(turn)));
    equal((await get(client, p + "a")).value, String(turn));
    const listed = await collect(client.listConfigurationSettings({ keyFilter: p + "*" }));
    equal(listed.map(({ value }) => value), [String(turn)]);
  }
  equal(tokens.size, 20);
  await client.deleteConfigurationSetting({ key: p + "a" });
  await failsWith(404, get(client, p + "a"));
});

scenario("a client without the token sees the old state", async (p) => {
  await put(p + "a", "new");
  await failsWith(404, get(newClient(), p + "a"));
}, direct);

scenario("a token from elsewhere shows the new state", async (p) => {
  const reader = newClient();
  reader.updateSyncToken(await put(p + "a", "new"));
  equal((await get(reader, p + "a")).value, "new");
});

scenario("a 412, which has no token, makes this client forget its own write", async (p) => {
  await put(p + "a", "new");
  await failsWith(412, client.addConfigurationSetting({ key: p + "a", value: "again" }));
  await failsWith(404, get(client, p + "a"));
}, direct);

scenario("a 412 through the sidecar has a token", async (p) => {
  await put(p + "a", "new");
  await failsWith(412, client.addConfigurationSetting({ key: p + "a", value: "again" }));
  equal((await get(client, p + "a")).value, "new");
}, behindSidecar);

scenario("every client reads the writes of all", async (p) => {
  const reader = newClient();
  for (let turn = 0; turn < 20; turn++) {
    await put(p + "a", String(turn));
    equal((await get(reader, p + "a")).value, String(turn));
    const listed = await collect(reader.listConfigurationSettings({ keyFilter: p + "*" }));
    equal(listed.map(({ value }) => value), [String(turn)]);
  }
}, behindSidecar);

await runAll();
