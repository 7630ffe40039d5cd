/**
 * The JavaScript client of python/session.py: reads what it is told to, one line of JSON in and one out.
 *
 * {"key": KEY, "list": FILTER, "provoke": true} → {"value": …, "listed": […], "sent": …, "received": […]}; `provoke` first
 * causes the answers that are known to make this client forget its tokens or throw: 304, 404 and 412.
 */
import { AppConfigurationClient } from "@azure/app-configuration";
import { createInterface } from "node:readline";
import { collect, connectionString, failsWith, observing } from "./scenario.js";

const { options, seen } = observing();
const client = new AppConfigurationClient(connectionString, options);

/** The value of a key; `null` when the store shows none. */
async function value(key) {
  try {
    return (await client.getConfigurationSetting({ key })).value;
  } catch (error) {
    if (error.statusCode === 404) return null;
    throw error;
  }
}

/** Answers 304, 404 and 412 in turn; what each of them left of the tokens. */
async function provoke(key) {
  const received = [];
  const setting = await client.getConfigurationSetting({ key });
  for (const call of [
    async () => client.getConfigurationSetting(setting, { onlyIfChanged: true }),
    async () => failsWith(404, client.getConfigurationSetting({ key: key + "-missing" })),
    async () => failsWith(412, client.addConfigurationSetting({ key, value: "another" })),
  ]) {
    await call();
    received.push(seen.received ?? null);
  }
  return received;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { key, list, provoke: provoking } = JSON.parse(line);
  const answer = {};
  try {
    answer.value = await value(key);
    answer.received = [seen.received ?? null];
    answer.sent = seen.sent ?? null;
    if (list) {
      const listed = await collect(client.listConfigurationSettings({ keyFilter: list }));
      answer.listed = listed.map((setting) => setting.value);
    }
    if (provoking) answer.received.push(...(await provoke(key)));
  } catch (error) {
    answer.error = String(error.stack ?? error);
  }
  console.log(JSON.stringify(answer));
}
