/** Namespaces: their invariants and their store writes. Never programs anything. */
import type { CreateNamespace, UpdateNamespace } from '../../tools/namespace.ts';
import { ClawError } from '../errors.ts';
import { NAMESPACE_NAME_LABEL, type Namespace } from '../model/namespace.ts';
import type { Labels } from '../model/name.ts';
import { page } from './paging.ts';
import { deleteRecord, replaceRecord, requireRecord, requireRoom, type Change } from './records.ts';
import type { World } from './world.ts';

const MISSING = { code: 'NAMESPACE_NOT_FOUND', listWith: 'namespace.list' } as const;

export function namespaceManager(world: World) {
  const keyOf = (name: string): string => `namespaces/${name}`;
  const find = (name: string): Namespace => requireRecord(world.desired.namespaces, keyOf(name), MISSING);
  const shown = (namespace: Namespace) => ({
    name: namespace.name,
    labels: { ...namespace.labels, [NAMESPACE_NAME_LABEL]: namespace.name },
  });

  return {
    create: async (input: CreateNamespace) => {
      requireOwnNameLabel(input.name, input.labels);
      const { answer, revision } = await world.mutate(() => {
        const key = keyOf(input.name);
        if (world.desired.namespaces.has(key)) {
          throw new ClawError('NAMESPACE_EXISTS', `namespace ${input.name} exists already`, { path: 'name', hint: 'namespace.update changes its labels.' });
        }
        const { namespace, ...change } = newNamespace(world, input);
        return { ...change, answer: namespace };
      });
      return { answer: { ...shown(answer), success: true as const }, revision };
    },

    update: async (input: UpdateNamespace) => {
      requireOwnNameLabel(input.name, input.labels ?? {});
      const { answer, revision } = await world.mutate(() => {
        const old = find(input.name);
        const updated: Namespace = { ...old, labels: input.labels === undefined ? old.labels : (input.labels ?? {}) };
        return { ...replaceRecord(world, keyOf(input.name), updated), answer: updated };
      });
      return { answer: { ...shown(answer), success: true as const }, revision };
    },

    delete: async (input: { name: string }) => {
      const { revision } = await world.mutate(() => {
        find(input.name);
        requireEmpty(world, input.name);
        return { ...deleteRecord(world, keyOf(input.name)), answer: undefined };
      });
      return { answer: { name: input.name, deleted: true as const }, revision };
    },

    list: async (input: { limit: number; cursor?: string | undefined }) => {
      const { items, ...paging } = page(world.desired.namespaces, input);
      return { answer: { ...paging, namespaces: items.map((namespace) => ({ ...shown(namespace), createdAt: namespace.createdAt })) } };
    },
  };
}

/** A namespace that is not there yet, and the writes that make it. */
export function newNamespace(world: World, { name, labels }: Pick<Namespace, 'name' | 'labels'>): Change & { readonly namespace: Namespace } {
  requireRoom(world.desired.namespaces, 'namespaces');
  const namespace: Namespace = { v: 1, createdAt: world.now().toISOString(), name, labels };
  return { ...replaceRecord(world, `namespaces/${name}`, namespace), namespace };
}

export function requireOwnNameLabel(name: string, labels: Labels): void {
  const given = labels[NAMESPACE_NAME_LABEL];
  if (given === undefined || given === name) return;
  throw new ClawError('INVALID_ARGUMENT', `label ${NAMESPACE_NAME_LABEL} is always the namespace's name, ${name}, not ${given}`, {
    path: `labels.${NAMESPACE_NAME_LABEL}`,
    hint: 'Leave it out.',
  });
}

function requireEmpty(world: World, name: string): void {
  const { services, ingresses, workloads, policies } = world.desired;
  const held = Object.entries({ services, ingresses, workloads, policies }).flatMap(([kind, records]) => {
    const count = [...records.keys()].filter((key) => key.startsWith(`${kind}/${name}/`)).length;
    const noun = { services: 'service', ingresses: 'ingress', workloads: 'workload', policies: 'policy' }[kind] ?? kind;
    return count === 0 ? [] : [`${count} ${count === 1 ? noun : kind}`];
  });
  if (held.length === 0) return;
  throw new ClawError('NAMESPACE_NOT_EMPTY', `namespace ${name} still holds ${held.join(', ')}`, { path: 'name', hint: 'Delete what it holds first.' });
}
