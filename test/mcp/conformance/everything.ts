/** A server with everything that the official conformance suite asks for by name, for tests alone: our own server has neither images nor questions to its client. */
import { completable, McpServer, ResourceTemplate, type CallToolResult, type ServerContext } from '@modelcontextprotocol/server';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { addQuestions, stateCodec } from './everything-asked.ts';

/** One pixel, and no sound at all. */
const IMAGE = { data: 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==', mimeType: 'image/png' };
const SOUND = { data: 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAESsAACJWAAACABAAZGF0YQAAAAA=', mimeType: 'audio/wav' };
const PAUSE_MS = 50;

export function everythingServer(): McpServer {
  const server = new McpServer(
    { name: 'everything', version: '1.0.0' },
    {
      // The lists never change, as ours do not.
      capabilities: { tools: { listChanged: false }, resources: { subscribe: true, listChanged: false }, prompts: { listChanged: false }, logging: {}, completions: {} },
      requestState: { verify: (state, context) => stateCodec.verify(state, context) },
    },
  );
  addTools(server);
  addQuestions(server);
  addResources(server);
  addPrompts(server);
  return server;
}

function addTools(server: McpServer): void {
  const tool = (name: string, answer: (context: ServerContext) => Promise<CallToolResult> | CallToolResult): void => {
    server.registerTool(name, { description: `Fixture ${name}` }, answer);
  };
  tool('test_simple_text', () => ({ content: [{ type: 'text', text: 'This is a simple text response for testing.' }] }));
  tool('test_image_content', () => ({ content: [{ type: 'image', ...IMAGE }] }));
  tool('test_audio_content', () => ({ content: [{ type: 'audio', ...SOUND }] }));
  tool('test_embedded_resource', () => ({
    content: [{ type: 'resource', resource: { uri: 'test://embedded-resource', mimeType: 'text/plain', text: 'This is an embedded resource content.' } }],
  }));
  tool('test_multiple_content_types', () => ({
    content: [
      { type: 'text', text: 'Multiple content types test:' },
      { type: 'image', ...IMAGE },
      { type: 'resource', resource: { uri: 'test://mixed-content-resource', mimeType: 'application/json', text: '{"test":"data","value":123}' } },
    ],
  }));
  tool('test_error_handling', () => {
    throw new Error('This tool intentionally returns an error for testing');
  });
  for (const name of ['test_tool_with_logging', 'test_logging_tool']) {
    tool(name, async ({ mcpReq }) => {
      for (const text of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
        await mcpReq.log('info', text);
        await sleep(PAUSE_MS);
      }
      return done;
    });
  }
  tool('test_tool_with_progress', async ({ mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 100 } });
      await sleep(PAUSE_MS);
    }
    return done;
  });
}

const done: CallToolResult = { content: [{ type: 'text', text: 'done' }] };

function addResources(server: McpServer): void {
  const text = { mimeType: 'text/plain', description: 'A fixture' };
  server.registerResource('static text', 'test://static-text', text, ({ href }) => ({
    contents: [{ uri: href, mimeType: 'text/plain', text: 'This is the content of the static text resource.' }],
  }));
  server.registerResource('watched', 'test://watched-resource', text, ({ href }) => ({ contents: [{ uri: href, mimeType: 'text/plain', text: 'Watched resource content' }] }));
  server.registerResource('static binary', 'test://static-binary', { mimeType: IMAGE.mimeType, description: 'A fixture' }, ({ href }) => ({
    contents: [{ uri: href, mimeType: IMAGE.mimeType, blob: IMAGE.data }],
  }));
  const template = new ResourceTemplate('test://template/{id}/data', { list: undefined });
  server.registerResource('template', template, { mimeType: 'application/json', description: 'A fixture' }, ({ href }, { id }) => ({
    contents: [{ uri: href, mimeType: 'application/json', text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${String(id)}` }) }],
  }));
  for (const method of ['resources/subscribe', 'resources/unsubscribe'] as const) server.server.setRequestHandler(method, () => ({}));
}

function addPrompts(server: McpServer): void {
  server.registerPrompt('test_simple_prompt', { description: 'Fixture' }, () => ({
    messages: [{ role: 'user', content: { type: 'text', text: 'This is a simple prompt for testing.' } }],
  }));
  const argument = (description: string) => completable(z.string().describe(description), (value) => [`${value}-completed`]);
  const argsSchema = z.object({ arg1: argument('First test argument'), arg2: argument('Second test argument') });
  server.registerPrompt('test_prompt_with_arguments', { description: 'Fixture', argsSchema }, ({ arg1, arg2 }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `Prompt with arguments: arg1='${arg1}', arg2='${arg2}'` } }],
  }));
  server.registerPrompt('test_prompt_with_embedded_resource', { description: 'Fixture', argsSchema: z.object({ resourceUri: z.string() }) }, ({ resourceUri }) => ({
    messages: [
      { role: 'user', content: { type: 'resource', resource: { uri: resourceUri, mimeType: 'text/plain', text: 'Embedded resource content for testing.' } } },
      { role: 'user', content: { type: 'text', text: 'Please process the embedded resource above.' } },
    ],
  }));
  server.registerPrompt('test_prompt_with_image', { description: 'Fixture' }, () => ({
    messages: [
      { role: 'user', content: { type: 'image', ...IMAGE } },
      { role: 'user', content: { type: 'text', text: 'Please analyze the image above.' } },
    ],
  }));
}
