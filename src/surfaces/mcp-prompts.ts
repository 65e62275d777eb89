/** The usual tasks as MCP prompts: each names the tool calls that do it, with the caller's own names filled in. Pure; it calls nothing. */
import { z } from 'zod';
import { port } from '../model/address.ts';
import { host } from '../model/ingress.ts';
import { name } from '../model/name.ts';
import { McpFailure, RPC } from './mcp-failure.ts';
import { toolsInScope, type ToolScope } from './tool-scope.ts';

/** Prompts whose tools are all in scope: one that could not be followed would only mislead. */
export function listPrompts(scope: ToolScope) {
  return promptsInScope(scope).map(({ name: promptName, title, description, args }) => ({
    name: promptName,
    title,
    description,
    arguments: Object.entries(args.shape).map(([key, field]) => ({
      name: key,
      description: z.toJSONSchema(field, { io: 'input', unrepresentable: 'any' }).description ?? key,
      required: !field.safeParse(undefined).success,
    })),
  }));
}

export interface PromptCall {
  readonly name: string;
  readonly arguments?: Record<string, string> | undefined;
}

/** A type and no interface, so that it fits the index signatures of the protocol's results. */
export type PromptResult = {
  description: string;
  messages: { role: 'user'; content: { type: 'text'; text: string } }[];
};

/** Throws McpFailure invalidParams for a prompt that is not listed and for a wrong argument, which it names. */
export function getPrompt(scope: ToolScope, { name: wanted, arguments: given = {} }: PromptCall): PromptResult {
  const prompts = promptsInScope(scope);
  const prompt = prompts.find((candidate) => candidate.name === wanted);
  if (prompt === undefined) {
    throw invalid(`there is no prompt ${JSON.stringify(wanted.slice(0, 60))} in this session; there is: ${prompts.map((listed) => listed.name).join(', ') || 'none'}`);
  }
  return { description: prompt.description, messages: [{ role: 'user', content: { type: 'text', text: prompt.text(given) } }] };
}

interface Prompt {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly args: z.ZodObject;
  /** The tools it calls. */
  readonly needs: readonly string[];
  readonly text: (given: Record<string, string>) => string;
}

interface PromptDefinition<Args extends z.ZodObject> extends Omit<Prompt, 'args' | 'text'> {
  readonly args: Args;
  readonly text: (args: z.output<Args>) => string;
}

function definePrompt<Args extends z.ZodObject>(definition: PromptDefinition<Args>): Prompt {
  return { ...definition, text: (given) => definition.text(parseArguments(definition.args, given)) };
}

/** Prompt arguments are always texts. */
const number = z.string().regex(/^\d+$/, { error: 'a number' }).transform(Number);
const portNumber = number.pipe(port);

const MAX_REPLICAS = 20;
const MAX_BACKENDS = 20;

const exposeWebService = definePrompt({
  name: 'expose_web_service',
  title: 'Expose a web service with load balancing',
  description: 'Run several copies of a web server, balance over them behind one virtual IP, and serve them to the outside under a host name.',
  needs: ['workload_run', 'service_create', 'ingress_create'],
  args: z.strictObject({
    name: name.describe('Name of the service, e.g. web; its workloads get the label app=NAME'),
    host: host.describe('Host name it answers to, e.g. www.example.com'),
    port: portNumber.prefault('80').describe('Port of the virtual IP; 80 when left out'),
    targetPort: portNumber.prefault('8080').describe('Port the server listens on; 8080 when left out'),
    replicas: number.pipe(z.int().min(1).max(MAX_REPLICAS)).prefault('2').describe(`How many copies, at most ${MAX_REPLICAS}; 2 when left out`),
  }),
  text: (args) =>
    steps(`Expose the web service "${args.name}" with load balancing over ${args.replicas} workloads, under the host name ${args.host}.`, [
      `Run the workloads. Each must listen on 0.0.0.0:${args.targetPort}; ask me for the program if you do not know it, and put it in place of the command here.`,
      ...Array.from({ length: args.replicas }, (_, index) =>
        call('workload_run', {
          name: `${args.name}-${index + 1}`,
          labels: { app: args.name },
          command: ['PROGRAM', 'ARGUMENT'],
          ports: [{ name: 'http', port: args.targetPort }],
        }),
      ),
      'Create the service.',
      call('service_create', { name: args.name, selector: { app: args.name }, port: args.port, targetPort: 'http' }),
      'Create the ingress.',
      call('ingress_create', { name: args.name, rules: [{ host: args.host, path: '/', service: args.name }] }),
      `Look whether it works: ${inline('service_endpoints', { name: args.name })} should tell of ${args.replicas} healthy endpoints, and ${inline('ingress_list', {})} should show its rule ready.`,
    ]),
});

const apiGateway = definePrompt({
  name: 'api_gateway',
  title: 'Multi-service API gateway',
  description: 'Put several backends behind one host name, each under a path of its own.',
  needs: ['service_create', 'ingress_create'],
  args: z.strictObject({
    host: host.describe('Host name of the API, e.g. api.example.com'),
    backends: z
      .string()
      .transform((text) => text.split(',').map((part) => part.trim()))
      // The service is called after its backend, with "-svc" behind it.
      .pipe(z.array(name.max(59, { error: 'a backend has at most 59 characters' })).max(MAX_BACKENDS))
      .refine((backends) => new Set(backends).size === backends.length, { error: 'each backend is named once' })
      .describe('Backends with commas between them, e.g. auth,users,orders: each is the label app=BACKEND of its workloads and the path /BACKEND'),
    port: portNumber.prefault('8080').describe('Port the backends listen on; 8080 when left out'),
    name: name.prefault('api-gateway').describe('Name of the ingress; api-gateway when left out'),
  }),
  text: (args) =>
    steps(`Build an API gateway for ${args.host} in front of these backends: ${args.backends.join(', ')}.`, [
      `Create a service per backend. It picks up all workloads with its label, now and later; they must listen on 0.0.0.0:${args.port}.`,
      ...args.backends.map((backend) => call('service_create', { name: `${backend}-svc`, selector: { app: backend }, port: args.port })),
      'Create one ingress that routes by path; the longest path that fits wins, and a backend sees the whole path.',
      call('ingress_create', { name: args.name, rules: args.backends.map((backend) => ({ host: args.host, path: `/${backend}`, service: `${backend}-svc` })) }),
      `Look whether it works: ${inline('ingress_list', {})} should show each rule ready; for one that is not, service_endpoints tells what stands behind it.`,
    ]),
});

const lockDownDatabase = definePrompt({
  name: 'lock_down_database',
  title: 'Lock down a database',
  description: 'Let only the named workloads connect to a database, and the database to nothing.',
  needs: ['network_policy_create', 'network_explain', 'network_probe'],
  args: z.strictObject({
    database: name.describe('The label app=DATABASE of the database workloads, e.g. postgres'),
    client: name.describe('The label app=CLIENT of those that may connect, e.g. api'),
    port: portNumber.prefault('5432').describe('Port of the database; 5432 when left out'),
  }),
  text: ({ database, client, port: databasePort }) =>
    steps(`Isolate the workloads with app=${database}: only those with app=${client} may connect, to tcp ${databasePort} alone, and they connect to nothing.`, [
      `Look first who would be cut off: rehearse it as ${inline('network_policy_create', { name: `${database}-isolation`, mode: 'audit' })} if you are not sure, and ask me.`,
      call('network_policy_create', {
        name: `${database}-isolation`,
        selector: { app: database },
        ingress: [{ port: databasePort, protocol: 'tcp', from: { selector: { app: client } } }],
        egress: [],
      }),
      `Prove it: ${inline('network_probe', { from: `default/${client}`, to: `default/${database}`, port: databasePort })} with the names of real workloads reaches it, and the same from another workload does not; network_explain says why.`,
    ]),
});

const PROMPTS: readonly Prompt[] = [exposeWebService, apiGateway, lockDownDatabase];

function promptsInScope(scope: ToolScope): Prompt[] {
  const listed = new Set(toolsInScope(scope).map(({ toolName }) => toolName));
  return PROMPTS.filter(({ needs }) => needs.every((tool) => listed.has(tool)));
}

function parseArguments<Args extends z.ZodObject>(args: Args, given: Record<string, string>): z.output<Args> {
  // Hosts send the empty text for a field that a person left empty.
  const filled = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ''));
  const parsed = args.safeParse(filled);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const missing = Object.keys(args.shape).find((key) => key === issue?.path[0] && !Object.hasOwn(filled, key));
  throw invalid(missing === undefined ? `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'wrong'}` : `${missing} is missing`);
}

function invalid(message: string): McpFailure {
  return new McpFailure(RPC.invalidParams, message);
}

function steps(task: string, lines: readonly string[]): string {
  const after = [
    'Then tell me the clusterIp and the urls. Where an answer says `enforced: false`, tell me its reason instead of calling the work done.',
    'When a call fails, do what its hint says.',
  ];
  return [task, '', ...lines, ...after].join('\n');
}

function call(tool: string, params: Readonly<Record<string, unknown>>): string {
  return `- ${inline(tool, params)}`;
}

function inline(tool: string, params: Readonly<Record<string, unknown>>): string {
  return `${tool} ${JSON.stringify(params)}`;
}
