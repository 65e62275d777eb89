/** Those fixtures of the conformance suite that ask the client something before they answer, in the one way that both revisions of the protocol understand. */
import { randomBytes } from 'node:crypto';
import {
  acceptedContent,
  createRequestStateCodec,
  inputRequired,
  inputResponse,
  type CallToolResult,
  type ClientCapabilities,
  type InputRequest,
  type InputRequiredResult,
  type McpServer,
  type ServerContext,
} from '@modelcontextprotocol/server';
import { z } from 'zod';

export const stateCodec = createRequestStateCodec<string>({ key: randomBytes(32) });

type Answer = CallToolResult | InputRequiredResult;

export function addQuestions(server: McpServer): void {
  const tool = (name: string, answer: (context: ServerContext) => Promise<Answer> | Answer): void => {
    server.registerTool(name, { description: `Fixture ${name}` }, answer);
  };
  const asking = (name: string, inputRequests: Record<string, InputRequest>): void =>
    tool(name, (context) => (isAnswered(context, Object.keys(inputRequests)) ? answerOf(context, Object.keys(inputRequests)) : inputRequired({ inputRequests })));
  const remembering = (name: string, inputRequests: Record<string, InputRequest>): void =>
    tool(name, async (context) => {
      const keys = Object.keys(inputRequests);
      if (isAnswered(context, keys) && context.mcpReq.requestState() === name) return text(`state-ok: ${JSON.stringify(context.mcpReq.inputResponses)}`);
      return inputRequired({ inputRequests, requestState: await stateCodec.mint(name, context) });
    });

  asking('test_input_required_result_elicitation', { user_name: NAME });
  asking('test_input_required_result_sampling', { capital_question: sampling('What is the capital of France?') });
  asking('test_input_required_result_list_roots', { client_roots: inputRequired.listRoots() });
  asking('test_streaming_elicitation', { user_name: NAME });
  // Refused by the library: the client of this scenario does not take it.
  asking('test_missing_capability', { greeting: sampling('Generate a greeting') });
  remembering('test_input_required_result_request_state', { confirm: CONFIRM });
  remembering('test_input_required_result_tampered_state', { confirm: CONFIRM });
  remembering('test_input_required_result_multiple_inputs', { user_name: NAME, greeting: sampling('Generate a greeting'), client_roots: inputRequired.listRoots() });
  tool('test_input_required_result_multi_round', severalRounds);
  tool('test_input_required_result_capabilities', (context) => onlyWhatItCan(server.server.getClientCapabilities() ?? {}, context));
  asking('test_elicitation_sep1034_defaults', { it: elicitation(DEFAULTS) });
  asking('test_elicitation_sep1330_enums', { it: elicitation(ENUMS) });
  server.registerTool('test_sampling', { description: 'Fixture', inputSchema: z.object({ prompt: z.string() }) }, ({ prompt }, context) =>
    isAnswered(context, ['it']) ? answerOf(context, ['it']) : inputRequired({ inputRequests: { it: sampling(prompt) } }),
  );
  server.registerTool('test_elicitation', { description: 'Fixture', inputSchema: z.object({ message: z.string() }) }, ({ message }, context) =>
    isAnswered(context, ['it'])
      ? answerOf(context, ['it'])
      : inputRequired({ inputRequests: { it: inputRequired.elicit({ message, requestedSchema: { type: 'object', properties: { response: { type: 'string' } }, required: ['response'] } }) } }),
  );

  server.registerPrompt('test_input_required_result_prompt', { description: 'Fixture' }, ({ mcpReq }) => {
    const given = acceptedContent(mcpReq.inputResponses, 'user_context');
    if (given === undefined) return inputRequired({ inputRequests: { user_context: question('What context should the prompt use?', 'context') } });
    return { messages: [{ role: 'user', content: { type: 'text', text: JSON.stringify(given) } }] };
  });
}

/** The first answer asks for the second; which one it is, the state that the client hands back tells. */
async function severalRounds(context: ServerContext): Promise<Answer> {
  const { mcpReq } = context;
  const ask = async (step: string, message: string, key: string): Promise<Answer> =>
    inputRequired({ inputRequests: { [step]: question(message, key) }, requestState: await stateCodec.mint(step, context) });
  if (mcpReq.requestState() === 'step1' && isAnswered(context, ['step1'])) return ask('step2', 'Step 2: What is your favorite color?', 'color');
  if (mcpReq.requestState() === 'step2' && isAnswered(context, ['step2'])) return answerOf(context, ['step2']);
  return ask('step1', 'Step 1: What is your name?', 'name');
}

function onlyWhatItCan(can: ClientCapabilities, context: ServerContext): Answer {
  const inputRequests = { ...(can.sampling === undefined ? {} : { greeting: sampling('Generate a greeting') }), ...(can.elicitation === undefined ? {} : { user_name: NAME }) };
  return Object.keys(inputRequests).length === 0 || isAnswered(context, Object.keys(inputRequests)) ? text('done') : inputRequired({ inputRequests });
}

function isAnswered({ mcpReq }: ServerContext, keys: readonly string[]): boolean {
  return keys.every((key) => inputResponse(mcpReq.inputResponses, key).kind !== 'missing');
}

/** `Elicitation completed: action=accept, content={…}` and its like for the other two. */
function answerOf({ mcpReq }: ServerContext, keys: readonly string[]): CallToolResult {
  const parts = keys.map((key) => {
    const given = inputResponse(mcpReq.inputResponses, key);
    if (given.kind === 'elicit') return `Elicitation completed: action=${given.action}, content=${JSON.stringify(given.content ?? {})}`;
    return given.kind === 'sampling' ? `LLM response: ${JSON.stringify(given.result.content)}` : JSON.stringify(given);
  });
  return text(parts.join('; '));
}

function text(it: string): CallToolResult {
  return { content: [{ type: 'text', text: it }] };
}

function question(message: string, key: string): InputRequest {
  return inputRequired.elicit({ message, requestedSchema: { type: 'object', properties: { [key]: { type: 'string' } }, required: [key] } });
}

function sampling(prompt: string): InputRequest {
  return inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens: 100 });
}

const NAME = question('What is your name?', 'name');
const CONFIRM = inputRequired.elicit({ message: 'Please confirm', requestedSchema: { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] } });

type Properties = Exclude<Parameters<typeof inputRequired.elicit>[0]['requestedSchema'], { '~standard': unknown }>['properties'];

function elicitation(properties: Properties): InputRequest {
  return inputRequired.elicit({ message: 'Please fill in the form', requestedSchema: { type: 'object', properties } });
}

const DEFAULTS: Properties = {
  name: { type: 'string', default: 'John Doe' },
  age: { type: 'integer', default: 30 },
  score: { type: 'number', default: 95.5 },
  status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
  verified: { type: 'boolean', default: true },
};

const titled = (titles: readonly string[]) => titles.map((title, index) => ({ const: `value${index + 1}`, title }));

const ENUMS: Properties = {
  untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
  titledSingle: { type: 'string', oneOf: titled(['First Option', 'Second Option', 'Third Option']) },
  legacyEnum: { type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['Option One', 'Option Two', 'Option Three'] },
  untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
  titledMulti: { type: 'array', items: { anyOf: titled(['First Choice', 'Second Choice', 'Third Choice']) } },
};
