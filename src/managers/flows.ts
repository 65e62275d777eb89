/** The connections that policies denied or would have denied, as they were told. Reads only. */
import { z } from 'zod';
import type { AskFlows } from '../../tools/flows.ts';
import { ClawError } from '../errors.ts';
import { ipv4 } from '../model/address.ts';
import type { World } from './world.ts';

/** With its zone: whoever asks may live in another one than the node. */
const time = z.iso.datetime({ offset: true });

export function flowManager(world: World) {
  return {
    list: async ({ namespace, workload, verdict, since, limit }: AskFlows) => {
      const query = { namespace, workload: workload === undefined ? undefined : endName(workload, namespace), verdict, sinceMs: since === undefined ? undefined : readTime(since), limit };
      const { flows, count } = world.flows(query);
      if (count === 0 && query.workload !== undefined) requireKnown(world, query.workload);
      const { works, reason, dropped, listeningSince } = world.health().audit;
      return {
        answer: {
          flows: [...flows],
          count,
          auditWorks: works,
          ...(reason === undefined ? {} : { reason }),
          ...(dropped === 0 ? {} : { dropped }),
          ...(listeningSince === undefined ? {} : { listeningSince }),
        },
      };
    },
  };
}

function endName(given: string, namespace = 'default'): string {
  return given.includes('/') || ipv4.safeParse(given).success ? given : `${namespace}/${given}`;
}

/** A misspelt name must not look like a workload of which nothing was denied; one that is gone may still have flows. */
function requireKnown(world: World, workload: string): void {
  if (!workload.includes('/') || world.desired.workloads.has(`workloads/${workload}`)) return;
  if (world.flows({ workload, limit: 1 }).count > 0) return;
  throw new ClawError('WORKLOAD_NOT_FOUND', `there is no workload ${workload}, and no flow of one`, { path: 'workload', hint: 'workload.list shows all workloads.' });
}

function readTime(text: string): number {
  if (time.safeParse(text).success) return Date.parse(text);
  throw new ClawError('INVALID_ARGUMENT', `${JSON.stringify(text)} is no time`, { path: 'since', hint: 'Give it as 2026-01-31T12:00:00Z.' });
}
