/**
 * What every JavaScript scenario script shares. The same contract as python/scenario.py: one line a scenario,
 * `ok NAME` or `FAILED NAME: reason`, then `done COUNT`; the environment says where to go.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { basename } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

export const endpoint = process.env.TAGALONG_ENDPOINT;
const admin = process.env.TAGALONG_ADMIN;
export const target = process.env.TAGALONG_TARGET;
export const connectionString =
  `Endpoint=${endpoint};Id=${process.env.TAGALONG_ID};Secret=${process.env.TAGALONG_SECRET}`;
const token = process.env.TAGALONG_TOKEN;
/** The endpoint and the identity of a client, or of the provider's `load`: its first arguments. */
export const access = token
  ? [endpoint, { getToken: async () => ({ token, expiresOnTimestamp: 4102444800000 }) }]
  : [connectionString];
const run = randomBytes(4).toString("hex");
const scenarios = [];

/** Declares a scenario; `only` limits it to one target where the other must behave otherwise. */
export function scenario(name, body, { only } = {}) {
  if (only === undefined || only === target) scenarios.push({ name, body });
}

/** Runs all of them one after another, each with a key prefix of its own; exits 1 if one failed. */
export async function runAll(...shared) {
  let failed = 0;
  for (const [position, { name, body }] of scenarios.entries()) {
    const label = `${basename(process.argv[1])} ${name}`;
    try {
      await body(`js-${run}-${position}:`, ...shared);
      console.log(`ok ${label}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${label}: ${String(error.message).replaceAll("\n", " ")}\n${error.stack}`);
    }
  }
  console.log(`done ${scenarios.length}`);
  process.exitCode = failed ? 1 : 0;
}

export const equal = assert.deepEqual;

/** Everything an async iterator yields. */
export async function collect(iterator) {
  const items = [];
  for await (const item of iterator) items.push(item);
  return items;
}

/** Asserts that the promise fails with this HTTP status. */
export async function failsWith(statusCode, promise) {
  await assert.rejects(promise, (error) => {
    equal(error.statusCode, statusCode);
    return true;
  });
}

/** Waits until `condition()` holds: for timers inside the clients, which nothing else can move. */
export async function eventually(condition, withinMilliseconds = 15_000) {
  const deadline = Date.now() + withinMilliseconds;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `did not hold within ${withinMilliseconds} ms: ${condition}`);
    await pause(50);
  }
}

export { pause };

/** Client options with which `seen.sent` and `seen.received` are the Sync-Token of the last request and its answer. */
export function observing() {
  const seen = {};
  const sendRequest = async (request, next) => {
    seen.sent = request.headers.get("sync-token");
    const response = await next(request);
    seen.received = response.headers.get("sync-token");
    return response;
  };
  const policy = { name: "observeSyncTokens", sendRequest };
  const additionalPolicies = [{ position: "perRetry", policy }];
  return { seen, options: { allowInsecureConnection: true, additionalPolicies } };
}

async function ask(method, path, document) {
  const answer = await fetch(admin + path, {
    method,
    ...(document && { body: JSON.stringify(document), headers: { "Content-Type": "application/json" } }),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text;
}

/** The emulator misbehaves as planned while `body` runs. */
export async function withFaults(plan, body) {
  await ask("PUT", "/__emulator/faults", { faults: plan });
  try {
    return await body();
  } finally {
    await ask("DELETE", "/__emulator/faults");
  }
}

/** Starts counting anew; the returned function tells requests of one kind since, of one status or all. */
export async function count() {
  await ask("DELETE", "/__emulator/counts");
  return async (kind, status) => {
    const { requests } = JSON.parse(await ask("GET", "/__emulator/counts"));
    const statuses = requests[kind] ?? {};
    if (status !== undefined) return statuses[status] ?? 0;
    return Object.values(statuses).reduce((sum, each) => sum + each, 0);
  };
}
