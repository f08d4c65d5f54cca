// Shared by the checks with clients in JavaScript. `../node.py` starts the processes and sets
// RBEE_URL and RBEE_REFERENCE.

import { readFileSync } from "node:fs";

export const URL = process.env.RBEE_URL;
export const CASES = JSON.parse(readFileSync(process.env.RBEE_REFERENCE, "utf8")).cases;
export const MODEL = "builtin:haiku";
// Calls the first tool, repeats its result; under a constraint, the shortest answer.
export const CALLS = "mock:answer=call,context=16384";
export const SLOW = "mock:slots=1,tokens_per_second=20,length=100000,context=1000000";
export const WEATHER = {
  type: "object",
  properties: { town: { type: "string" }, days: { type: "integer" } },
  required: ["town", "days"],
};
export const QUESTION = "How is the weather in 'Bern' for 3 days?";

/** Thrown by a check that this version of rbee has no part for. */
export class NotApplicable extends Error {}

/** Returns the error that `call` rejects with. */
export async function rejected(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("no error");
}

/** Runs checks by name, prints a line for each and a summary, and sets the exit code. */
export async function main(client, checks) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [name, check] of Object.entries(checks)) {
    let result;
    try {
      await check();
      [result, counts.passed] = ["ok", counts.passed + 1];
    } catch (error) {
      if (error instanceof NotApplicable) {
        [result, counts.skipped] = [`not applicable: ${error.message}`, counts.skipped + 1];
      } else {
        [result, counts.failed] = [`FAILED\n${error.stack}`, counts.failed + 1];
      }
    }
    console.log(`client ${client}: ${name} ... ${result}`);
  }
  console.log(`client: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  process.exit(counts.failed ? 1 : 0);
}
