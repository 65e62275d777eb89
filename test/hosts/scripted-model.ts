/** A stand-in for a language model: speaks the streamed chat completions that the OpenClaw host asks an OpenAI-compatible server for, and plays a script. It understands nothing. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { z } from 'zod';

export const MODEL_ID = 'scripted';

export interface ToolCall {
  readonly tool: string;
  readonly args: unknown;
}

/** What the host sent the model. */
export interface ModelRequest {
  readonly system: string;
  readonly tools: ReadonlyMap<string, { readonly description: string; readonly parameters: unknown }>;
  /** The results of the tools so far, oldest first. */
  readonly results: readonly string[];
}

/** One turn of the model: yields each tool call, is given its result as text, and returns what it says at the end. */
export type Turn = (request: ModelRequest) => Generator<ToolCall, string, string>;

export interface ScriptedModel {
  readonly baseUrl: string;
  /** Every request, oldest first. */
  readonly requests: readonly ModelRequest[];
  /** Plays the turn while `ask` lets the host run one. Throws what the script threw, and when the host did not play it to its end. */
  readonly play: <Answer>(turn: Turn, ask: () => Promise<Answer>) => Promise<Answer>;
  readonly close: () => void;
}

/** A tool call in a script; its value is the result's text. */
export function* call(tool: string, args: unknown): Generator<ToolCall, string, string> {
  return yield { tool, args };
}

/** A model on a port of 127.0.0.1. A request outside of a turn is answered with 500. */
export async function openModel(): Promise<ScriptedModel> {
  const requests: ModelRequest[] = [];
  let playing: Playing | undefined;
  let calls = 0;
  const server = createServer((request, response) => {
    void reply(request).then(
      (answer) => send(response, answer, `call${(calls += 1)}`),
      (error: unknown) => response.writeHead(500, { 'content-type': 'application/json' }).end(JSON.stringify({ error: { message: String(error) } })),
    );
  });
  const reply = async (incoming: IncomingMessage): Promise<Reply> => {
    if (incoming.url !== '/v1/chat/completions') throw new Error(`the model is asked for ${incoming.url}`);
    const request = readRequest(await text(incoming));
    requests.push(request);
    if (playing === undefined) throw new Error('the model is asked outside of a turn');
    return step(playing, request);
  };
  const play: ScriptedModel['play'] = async (turn, ask) => {
    playing = { turn };
    try {
      const answer = await ask();
      if (playing.failure !== undefined) throw playing.failure;
      if (playing.said === undefined) throw new Error(`the host ended the turn before the model did: ${JSON.stringify({ requests: requests.length, last: requests.at(-1)?.results.at(-1), answer })}`);
      return answer;
    } finally {
      playing = undefined;
    }
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = z.object({ port: z.int() }).parse(server.address());
  const close = (): void => {
    server.close();
    server.closeAllConnections();
  };
  return { baseUrl: `http://127.0.0.1:${port}/v1`, requests, play, close };
}

interface Playing {
  readonly turn: Turn;
  running?: ReturnType<Turn>;
  said?: string;
  failure?: Error;
}

type Reply = ToolCall | { readonly said: string };

function step(playing: Playing, request: ModelRequest): Reply {
  if (playing.said !== undefined) throw new Error('the model has ended its turn');
  try {
    const next = playing.running === undefined ? (playing.running = playing.turn(request)).next() : playing.running.next(request.results.at(-1) ?? '');
    if (next.done !== true) return next.value;
    playing.said = next.value;
  } catch (error) {
    // The host would ask again and again for a request that fails, so the turn is ended and its caller told.
    playing.failure = error instanceof Error ? error : new Error(String(error));
    playing.said = 'The script failed.';
  }
  return { said: playing.said };
}

const message = z.object({ role: z.string(), content: z.unknown() });
const completion = z.object({
  model: z.literal(MODEL_ID),
  stream: z.literal(true),
  messages: z.array(message),
  tools: z.array(z.object({ type: z.literal('function'), function: z.object({ name: z.string(), description: z.string(), parameters: z.unknown() }) })).default([]),
});

function readRequest(body: string): ModelRequest {
  const { messages, tools } = completion.parse(JSON.parse(body));
  const contents = (role: string): string[] => messages.filter((each) => each.role === role).map(({ content }) => z.string().parse(content));
  return {
    system: contents('system').join('\n'),
    tools: new Map(tools.map(({ function: { name, ...rest } }) => [name, rest])),
    results: contents('tool'),
  };
}

function send(response: ServerResponse, reply: Reply, id: string): void {
  const delta =
    'said' in reply
      ? { role: 'assistant', content: reply.said }
      : { role: 'assistant', content: null, tool_calls: [{ index: 0, id, type: 'function', function: { name: reply.tool, arguments: JSON.stringify(reply.args) } }] };
  const chunk = (choices: readonly object[], more: object = {}): void =>
    void response.write(`data: ${JSON.stringify({ id, object: 'chat.completion.chunk', created: 1, model: MODEL_ID, choices, ...more })}\n\n`);
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  chunk([{ index: 0, delta, finish_reason: null }]);
  chunk([{ index: 0, delta: {}, finish_reason: 'said' in reply ? 'stop' : 'tool_calls' }]);
  chunk([], { usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 } });
  response.end('data: [DONE]\n\n');
}
