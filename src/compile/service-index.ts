/** Those services of thousands of which something holds, kept from one look to the next. No I/O. */
import type { Service } from '../model/service.ts';

export interface ServicesLook {
  /** By record key. */
  readonly services: ReadonlyMap<string, Service>;
  /** Keys of services that may differ from the look before; undefined: any. */
  readonly changed: Iterable<string> | undefined;
}

/** The first look has to be at all of them. What it gives is the index itself, which the next look changes. */
export function serviceIndex(belongs: (service: Service) => boolean): (look: ServicesLook) => ReadonlyMap<string, Service> {
  const index = new Map<string, Service>();
  return ({ services, changed }) => {
    if (changed === undefined) index.clear();
    for (const key of changed ?? services.keys()) {
      const service = services.get(key);
      if (service !== undefined && belongs(service)) index.set(key, service);
      else index.delete(key);
    }
    return index;
  };
}
