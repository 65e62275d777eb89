/** A world in which changes count as made that nobody has written yet, so that a plan may be worked out in steps. Writes nothing. */
import { createRecordState } from './record-state.ts';
import { together, type Change } from './records.ts';
import type { World } from './world.ts';

export interface Draft {
  /** As the real one, but for what was added. */
  readonly world: World;
  /** From now on the change counts as made. */
  add(change: Change): void;
  /** All that was added, as one change to the real world. */
  change(): Change;
}

export function openDraft(real: World): Draft {
  const records = createRecordState(real);
  const added: Change[] = [];
  return {
    world: { ...real, desired: records.state, allocations: (range) => records.allocations(range) },
    add: (change) => {
      added.push(change);
      for (const op of change.ops) {
        if (op.type === 'put') records.put(op.key, op.value);
        else records.remove(op.key);
      }
    },
    change: () => together(...added),
  };
}
