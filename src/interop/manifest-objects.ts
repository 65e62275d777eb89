/** Reads each object of a manifest as one of our nouns, whichever of its forms it has. What we can not enforce is refused with its path. */
import { ClawError } from '../errors.ts';
import type { Ingress } from '../model/ingress.ts';
import type { ServiceForm } from '../model/service-form.ts';
import type { PolicyParts } from '../policy/parties.ts';
import { INGRESS, readKubernetesIngress, type ReadIngress } from './kubernetes-ingress.ts';
import { NAMESPACE, readKubernetesNamespace, type ReadNamespace } from './kubernetes-namespace.ts';
import { NETWORK_POLICY, readKubernetesPolicy } from './kubernetes-policy.ts';
import { readKubernetesService, SERVICE, type ReadService } from './kubernetes-service.ts';
import { readManifest, type ManifestDocument } from './manifest.ts';
import { OWN_API_VERSION, readOwnIngress, readOwnPolicy, readOwnService } from './own-objects.ts';
import { at, type Form } from './refusal.ts';

/** As its manager takes it. */
export type ManifestNoun =
  | { readonly kind: 'Namespace'; readonly spec: ReadNamespace }
  | { readonly kind: 'Service'; readonly named: Named; readonly form: ServiceForm; readonly wish?: NonNullable<ReadService['wish']> }
  | { readonly kind: 'Ingress'; readonly spec: Pick<Ingress, 'namespace' | 'name' | 'rules' | 'tls'>; readonly ports?: ReadIngress['ports']; readonly places?: ReadIngress['places'] }
  | { readonly kind: 'NetworkPolicy'; readonly spec: PolicyParts };

export type ManifestObject = ManifestNoun & {
  /** Where it stands: `manifest[2]`. */
  readonly place: string;
};

interface Named {
  readonly namespace: string;
  readonly name: string;
}

type Read = (object: unknown) => ManifestNoun;

const READERS: readonly (readonly [Form, Read])[] = [
  [NAMESPACE, (object) => ({ kind: 'Namespace', spec: readKubernetesNamespace(object) })],
  [SERVICE, (object) => service(readKubernetesService(object))],
  [own('Service'), (object) => service(readOwnService(object))],
  [INGRESS, (object) => ingress(readKubernetesIngress(object))],
  [own('Ingress'), (object) => ({ kind: 'Ingress', spec: readOwnIngress(object) })],
  [NETWORK_POLICY, (object) => ({ kind: 'NetworkPolicy', spec: { ...readKubernetesPolicy(object), mode: 'enforce' } })],
  [own('NetworkPolicy'), (object) => ({ kind: 'NetworkPolicy', spec: readOwnPolicy(object) })],
];

/** In the order of the manifest. Throws INVALID_ARGUMENT or NOT_SUPPORTED with the path, e.g. `manifest[2].spec.ports[0].nodePort`. */
export async function readObjects(manifest: string): Promise<ManifestObject[]> {
  const documents = await readManifest(manifest);
  const objects = documents.map(readObject);
  const seen = new Map<string, string>();
  for (const object of objects) {
    const { namespace, name } = nameOf(object);
    const whole = [object.kind, namespace, name].filter((part) => part !== undefined).join(' ');
    const first = seen.get(whole);
    if (first !== undefined) {
      const path = `${object.place}.metadata.name`;
      throw new ClawError('INVALID_ARGUMENT', `${path}: ${object.kind} ${namespace === undefined ? '' : `${namespace}/`}${name} stands there already, in ${first}`, { path, hint: 'Give each object once.' });
    }
    seen.set(whole, object.place);
  }
  return objects;
}

export function nameOf(object: ManifestNoun): { readonly namespace?: string; readonly name: string } {
  if (object.kind === 'Namespace') return { name: object.spec.name };
  const { namespace, name } = object.kind === 'Service' ? object.named : object.spec;
  return { namespace, name };
}

function readObject({ index, kind, apiVersion, object }: ManifestDocument): ManifestObject {
  const place = `manifest[${index}]`;
  const [, read] = READERS.find(([form]) => form.kind === kind && form.apiVersion === apiVersion) ?? [];
  if (read === undefined) throw notSupported({ kind, apiVersion }, place);
  return { ...at(place, () => read(object)), place };
}

function notSupported({ kind, apiVersion }: Form, place: string): ClawError {
  const versions = READERS.filter(([form]) => form.kind === kind).map(([form]) => form.apiVersion);
  const part = versions.length === 0 ? 'kind' : 'apiVersion';
  const path = `${place}.${part}`;
  return new ClawError('NOT_SUPPORTED', `${path}: ${apiVersion} ${kind} can not be enforced: nothing of the manifest was applied`, {
    path,
    hint: versions.length === 0 ? `Kinds: ${[...new Set(READERS.map(([form]) => form.kind))].join(', ')}. Apply the manifest without this object.` : `Write it as ${versions.join(' or ')}.`,
  });
}

function service({ namespace, name, form, wish }: ReadService): ManifestNoun {
  return { kind: 'Service', named: { namespace, name }, form, ...(wish === undefined ? {} : { wish }) };
}

function ingress({ namespace, name, rules, tls, ports, places }: ReadIngress): ManifestNoun {
  return { kind: 'Ingress', spec: { namespace, name, rules: [...rules], tls }, ports, places };
}

function own(kind: string): Form {
  return { apiVersion: OWN_API_VERSION, kind };
}
