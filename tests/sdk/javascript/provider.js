/** @azure/app-configuration-provider: loading, refreshing, and what a refresh costs. */
import { AppConfigurationClient, featureFlagContentType, featureFlagPrefix } from "@azure/app-configuration";
import { load } from "@azure/app-configuration-provider";
import { access, count, equal, eventually, runAll, scenario, withFaults } from "./scenario.js";

const clientOptions = { allowInsecureConnection: true };
const client = new AppConfigurationClient(...access, clientOptions);
const put = (key, value, more = {}) => client.setConfigurationSetting({ key, value, ...more });

/** A provider of everything under `prefix`. */
const loaded = (prefix, options = {}) =>
  load(...access, {
    selectors: [{ keyFilter: prefix + "*" }],
    trimKeyPrefixes: [prefix],
    replicaDiscoveryEnabled: false,
    startupOptions: { timeoutInMs: 20_000 },
    clientOptions,
    ...options,
  });

/** The shortest refresh interval that the provider allows. */
const refreshIntervalInMs = 1000;

/** Refreshing brings `value` in the end. */
const refreshesTo = (settings, key, value) =>
  eventually(async () => {
    await settings.refresh();
    return settings.get(key) === value;
  });

scenario("load with selectors, labels and JSON", async (p) => {
  await put(p + "a", "none");
  await put(p + "a", "prod", { label: "prod" });
  await put(p + "json", '{"x":[1,2]}', { contentType: "application/json" });
  await put(p + "tagged", "yes", { tags: { env: "dev" } });
  const settings = await loaded(p);
  equal([settings.get("a"), settings.get("json"), settings.size], ["none", { x: [1, 2] }, 3]);
  const both = [{ keyFilter: p + "*" }, { keyFilter: p + "*", labelFilter: "prod" }];
  equal((await loaded(p, { selectors: both })).get("a"), "prod");
  const tagged = await loaded(p, { selectors: [{ keyFilter: p + "*", tagFilters: ["env=dev"] }] });
  equal([...tagged.keys()], ["tagged"]);
});

scenario("load more than a page", async (p) => {
  for (let number = 0; number < 210; number++) await put(p + number, String(number));
  const settings = await loaded(p);
  equal([settings.size, settings.get("209")], [210, "209"]);
});

scenario("load a snapshot", async (p) => {
  await put(p + "a", "before");
  const snapshotName = p.slice(0, -1);
  const filters = [{ keyFilter: p + "*" }];
  await client.beginCreateSnapshotAndWait({ name: snapshotName, filters }, { updateIntervalInMs: 100 });
  await put(p + "a", "after");
  equal((await loaded(p, { selectors: [{ snapshotName }] })).get("a"), "before");
});

scenario("refresh on a watched key", async (p) => {
  await put(p + "a", "1");
  await put(p + "sentinel", "1");
  const watchedSettings = [{ key: p + "sentinel" }];
  const settings = await loaded(p, { refreshOptions: { enabled: true, refreshIntervalInMs, watchedSettings } });
  equal(settings.get("a"), "1");
  await put(p + "a", "2");
  await put(p + "sentinel", "2");
  await refreshesTo(settings, "a", "2");
});

scenario("refresh by page ETags", async (p) => {
  for (let number = 0; number < 101; number++) await put(p + String(number).padStart(3, "0"), "1");
  const settings = await loaded(p, { refreshOptions: { enabled: true, refreshIntervalInMs } });
  await put(p + "100", "2");
  await refreshesTo(settings, "100", "2");
  await client.deleteConfigurationSetting({ key: p + "000" });
  await refreshesTo(settings, "000", undefined);
});

scenario("an idle refresh costs one 304 a page", async (p) => {
  for (let number = 0; number < 101; number++) await put(p + String(number).padStart(3, "0"), "1");
  const settings = await loaded(p, { refreshOptions: { enabled: true, refreshIntervalInMs } });
  const requests = await count();
  await eventually(async () => {
    await settings.refresh();
    return (await requests("GET /kv")) >= 2;
  });
  equal([await requests("GET /kv", 304), await requests("GET /kv", 200)], [2, 0]);
}, { only: "emulator" });

scenario("refresh feature flags", async (p) => {
  const setFlag = (enabled) => put(`${featureFlagPrefix}${p}beta`, JSON.stringify({ id: p + "beta", enabled, conditions: {} }),
    { contentType: featureFlagContentType });
  await setFlag(false);
  const featureFlagOptions = {
    enabled: true,
    selectors: [{ keyFilter: p + "*" }],
    refresh: { enabled: true, refreshIntervalInMs },
  };
  const settings = await loaded(p, { featureFlagOptions });
  const enabled = () => settings.get("feature_management").feature_flags.map((flag) => flag.enabled);
  equal(enabled(), [false]);
  await setFlag(true);
  await eventually(async () => {
    await settings.refresh();
    return enabled()[0] === true;
  });
});

scenario("loading survives a throttled start", async (p) => {
  await put(p + "a", "1");
  const throttle = { path: "/kv", count: 1, do: { kind: "throttle", retry_after: "50ms" } };
  await withFaults([throttle], async () => equal((await loaded(p)).get("a"), "1"));
});

await runAll();
