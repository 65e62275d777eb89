/** Prompts that keep others away from a database: at once where it is known who needs it, and step by step where it is not. Pure. */
import { z } from 'zod';
import { name } from '../model/name.ts';
import { call, commaList, definePrompt, inline, portNumber, steps } from './mcp-prompt.ts';

const MAX_CLIENTS = 20;

const database = name.max(50, { error: 'at most 50 characters, for its policy is called after it' }).describe('The label app=DATABASE of the database workloads, e.g. postgres');
const databasePort = portNumber.prefault('5432').describe('Port of the database; 5432 when left out');

export const isolateDatabase = definePrompt({
  name: 'isolate_database',
  title: 'Isolate a database',
  description: 'Let only the workloads of one label connect to a database, and the database to nothing, at once.',
  needs: ['network_policy_create', 'network_explain', 'workload_list'],
  args: z.strictObject({
    database,
    client: name.describe('The label app=CLIENT of those that may connect, e.g. api'),
    port: databasePort,
  }),
  text: (args, has) =>
    steps(`Isolate the workloads with app=${args.database}: only those with app=${args.client} may connect, to tcp ${args.port} alone, and they may connect to nothing.`, [
      `Look first with ${inline('workload_list', {})} which workloads have these labels. Others that use the database are cut off at once, open connections too: if you are not sure that there are none, ask me.`,
      call('network_policy_create', { name: `${args.database}-isolation`, ...rules(args.database, { clients: [args.client], port: args.port }) }),
      `\`selected\` in its answer is how many workloads it isolates; with 0 none has the label.`,
      ...proof(args.port, has),
      'Tell me who may connect now and who may not.',
    ]),
});

export const lockDownDatabase = definePrompt({
  name: 'lock_down_database',
  title: 'Lock down a database',
  description: 'Find out who uses a database, rehearse its isolation without cutting anybody off, then enforce and prove it.',
  needs: ['network_policy_create', 'network_policy_list', 'network_policy_delete', 'network_explain', 'workload_list', 'service_list'],
  args: z.strictObject({
    database,
    client: commaList
      .pipe(z.array(name).max(MAX_CLIENTS))
      .optional()
      .describe('Labels app=CLIENT of those that may connect, with commas between them, e.g. api,backup; when left out, they are found out first'),
    port: databasePort,
  }),
  text: (args, has) => {
    const policy = `${args.database}-lockdown`;
    const known = rules(args.database, { clients: args.client ?? [], port: args.port });
    const agreed = rules(args.database, { clients: args.client ?? ['client'], port: args.port });
    return steps(`Lock down the workloads with app=${args.database} (tcp ${args.port}). Nobody is cut off before step 4, and you take that step only when I have agreed.`, [
      'Step 1: see what there is: the database workloads and everybody else, the services in front of them, and the policies that select them already, since policies add up.',
      call('workload_list', {}),
      call('service_list', {}),
      call('network_policy_list', {}),
      `Step 2: rehearse. In audit mode a policy changes nothing; it only has told what it would deny${args.client === undefined ? ', which without a rule is every connection' : ''}.`,
      call('network_policy_create', { name: policy, ...known, mode: 'audit' }),
      ...watching(args.database, has),
      ...(args.client === undefined
        ? ['From that make a list of who connects, from where to which port. Show it to me and ask who of them may; each that may needs a label of its own to be named by. In the rules below, put these labels in place of `client`, one rule for each.']
        : []),
      ...(has('network_simulate') ? ['Work out what the rules mean before they are in force: the client has to come out as allow, the stranger and the way out of the database as deny.', simulation(args.database, { agreed, port: args.port })] : []),
      'Step 4: when I have agreed, enforce it. Open connections that it forbids are cut.',
      ...(has('network_policy_update')
        ? [call('network_policy_update', { name: policy, ...withoutSelector(agreed), mode: 'enforce' })]
        : [call('network_policy_delete', { name: policy }), call('network_policy_create', { name: policy, ...agreed })]),
      ...proof(args.port, has, 'Step 5: '),
      ...(has('network_flows') ? ['Step 6: watch for a while who is denied now.', call('network_flows', { workload: WORKLOAD.database, verdict: 'deny' })] : []),
      `If somebody is cut off who should not be, open it again at once, and then think: ${has('network_policy_update') ? inline('network_policy_update', { name: policy, mode: 'audit' }) : inline('network_policy_delete', { name: policy })}`,
      'Tell me who may connect now, who may not, and what was denied meanwhile.',
    ]);
  },
});

/** Where a caller has to put in what it has found. */
const WORKLOAD = { database: 'default/DATABASE', client: 'default/CLIENT', other: 'default/OTHER' };

/** As network.policy.create takes them. Without a client nobody may connect. */
function rules(label: string, { clients, port }: { clients: readonly string[]; port: number }) {
  return {
    selector: { app: label },
    ingress: clients.map((client) => ({ port, protocol: 'tcp', from: { selector: { app: client } } })),
    egress: [],
  };
}

function withoutSelector({ ingress, egress }: ReturnType<typeof rules>): Omit<ReturnType<typeof rules>, 'selector'> {
  return { ingress, egress };
}

function watching(label: string, has: (tool: string) => boolean): string[] {
  if (!has('network_flows')) return ['Step 3: this session can not see who connects (that takes the toolset policy), so ask me who uses the database, and at what times.'];
  return [
    `Step 3: watch, for as long as its users take to come by (a nightly job takes a night), for each workload with app=${label} in place of the capitals.`,
    call('network_flows', { workload: WORKLOAD.database, verdict: 'audit' }),
    'Only connections that begin while it watches are seen: one that was opened before is not. With `auditWorks: false` nothing is known; `reason` says why, and I have to tell who uses the database.',
  ];
}

function simulation(label: string, { agreed, port }: { agreed: ReturnType<typeof rules>; port: number }): string {
  const clients = agreed.ingress.map(({ from }, index) => ({ namespace: 'default', name: `client-${index + 1}`, labels: from.selector }));
  const target = { namespace: 'default', name: 'database', labels: { app: label } };
  const stranger = { namespace: 'default', name: 'stranger' };
  const probes = [...clients, stranger].map((from) => ({ from: `default/${from.name}`, to: 'default/database', port }));
  return call('network_simulate', {
    workloads: [target, ...clients, stranger],
    policies: [{ name: 'lockdown', ...agreed }],
    probes: [...probes, { from: 'default/database', to: 'default/stranger', port: 80 }],
  });
}

function proof(port: number, has: (tool: string) => boolean, number = ''): string[] {
  const [client, other] = [WORKLOAD.client, WORKLOAD.other].map((from) => ({ from, to: WORKLOAD.database, port }));
  return [
    `${number}Prove it with the names of real workloads in place of the capitals${has('network_probe') ? '; network_probe really connects' : ''}: the first has to come out as allow${has('network_probe') ? ' and reachable' : ''}, the others as deny.`,
    ...[client, other, { from: WORKLOAD.database, to: WORKLOAD.other, port: 80 }].flatMap((reach) => (reach === undefined ? [] : [call('network_explain', reach), ...(has('network_probe') ? [call('network_probe', reach)] : [])])),
  ];
}
