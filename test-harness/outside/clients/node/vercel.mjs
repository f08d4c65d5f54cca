// Vercel's AI SDK with its providers for OpenAI, compatible servers and Anthropic.

import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embed, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { CALLS, CASES, MODEL, QUESTION, URL, main, rejected } from "./checks.mjs";

// The SDK warns about names of models that it does not know.
globalThis.AI_SDK_LOG_WARNINGS = false;
const baseURL = `${URL}/v1`;
const openai = createOpenAI({ baseURL, apiKey: "unused" });
const compatible = createOpenAICompatible({
  name: "rbee", baseURL, includeUsage: true, supportsStructuredOutputs: true,
});
const anthropic = createAnthropic({ baseURL, apiKey: "unused" });
const providers = {
  "openai-compatible": (id) => compatible(id),
  openai: (id) => openai.chat(id),
  "openai responses": (id) => openai.responses(id),
  anthropic: (id) => anthropic(id),
};
const weather = (received) =>
  tool({
    description: "Weather",
    inputSchema: z.object({ town: z.string(), days: z.number().int() }),
    execute: (input) => (received.push(input), "21 degrees"),
  });
const answer = Output.object({ schema: z.object({ title: z.string(), rating: z.number().int() }) });

const checks = {
  "a text equals the reference": async (model) => {
    const { messages, output_text, output_ids } = CASES[0];
    const result = await generateText({ model: model(MODEL), messages, temperature: 0, maxOutputTokens: 96 });
    assert.equal(result.text, output_text);
    assert.equal(result.finishReason, "stop");
    assert.equal(result.usage.outputTokens, output_ids.length);
  },
  "a stream equals the reference": async (model) => {
    const { messages, output_text, output_ids } = CASES[0];
    const result = streamText({ model: model(MODEL), messages, temperature: 0, maxOutputTokens: 96, onError() {} });
    let text = "";
    for await (const part of result.textStream) text += part;
    assert.equal(text, output_text);
    assert.equal((await result.usage).outputTokens, output_ids.length);
  },
  "tools are called in a loop": async (model) => {
    const received = [];
    const result = await generateText({
      model: model(CALLS), prompt: QUESTION, tools: { weather: weather(received) }, stopWhen: stepCountIs(3), temperature: 0,
    });
    assert.deepEqual(received, [{ town: "Bern", days: 3 }]);
    assert.match(result.text, /21 degrees/);
  },
  "tools are called in a streamed loop": async (model) => {
    const received = [];
    const result = streamText({
      model: model(CALLS), prompt: QUESTION, tools: { weather: weather(received) }, stopWhen: stepCountIs(3), temperature: 0,
    });
    assert.match(await result.text, /21 degrees/);
    assert.deepEqual(received, [{ town: "Bern", days: 3 }]);
  },
  "a named tool is called": async (model) => {
    const result = await generateText({
      model: model(CALLS), prompt: QUESTION, temperature: 0,
      tools: { other: tool({ inputSchema: z.object({}) }), weather: tool({ inputSchema: z.object({ town: z.string() }) }) },
      toolChoice: { type: "tool", toolName: "weather" },
    });
    assert.equal(result.toolCalls[0].toolName, "weather");
  },
  "zod describes the answer": async (model) => {
    const result = await generateText({ model: model(CALLS), prompt: QUESTION, output: answer, temperature: 0 });
    assert.equal(typeof result.output.rating, "number");
  },
  "zod describes a streamed answer": async (model) => {
    const result = streamText({ model: model(CALLS), prompt: QUESTION, output: answer, temperature: 0 });
    assert.equal(typeof (await result.output).rating, "number");
  },
  "a missing model is an error": async (model) => {
    const error = await rejected(() => generateText({ model: model("nothing"), prompt: "x", maxRetries: 0 }));
    assert.equal(error.statusCode, 404);
    assert.match(error.message, /nothing/);
  },
};

const named = {
  "openai-compatible: texts are embedded": async () => {
    const { embedding } = await embed({ model: compatible.textEmbeddingModel(MODEL), value: "rain" });
    assert(embedding.length > 0);
  },
};
for (const [provider, model] of Object.entries(providers))
  for (const [name, check] of Object.entries(checks)) named[`${provider}: ${name}`] = () => check(model);
await main("ai", named);
