/**
 * The JavaScript provider of python/refreshing.py: loads what lies under TAGALONG_PREFIX, refreshes as an application does, and answers
 * each line of its input with what it shows: {"a": …}. It ends with its input.
 */
import { load } from "@azure/app-configuration-provider";
import { createInterface } from "node:readline";
import { access } from "./scenario.js";

/** How often the provider is asked to refresh, which it does when its interval is over. */
const ASKED_EVERY_MILLISECONDS = 200;

const prefix = process.env.TAGALONG_PREFIX;
const settings = await load(...access, {
  selectors: [{ keyFilter: prefix + "*" }],
  trimKeyPrefixes: [prefix],
  replicaDiscoveryEnabled: false,
  clientOptions: { allowInsecureConnection: true },
  refreshOptions: {
    enabled: true,
    refreshIntervalInMs: Number(process.env.TAGALONG_REFRESH_SECONDS) * 1000,
    watchedSettings: [{ key: prefix + "sentinel" }],
  },
});
const refreshing = setInterval(() => settings.refresh(), ASKED_EVERY_MILLISECONDS);
for await (const _line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ a: settings.get("a") }));
}
clearInterval(refreshing);
