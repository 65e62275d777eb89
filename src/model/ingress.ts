/** An ingress: which service answers which host and path; imports nothing local but its parts. */
import { z } from 'zod';
import { name } from './name.ts';
import { recordBase } from './record.ts';

/** A host name, or one wildcard label in front of one (`*.example.com`). Stored in lower case without a trailing dot. */
export const host = z
  .string()
  .transform((text) => text.toLowerCase().replace(/\.$/, ''))
  .pipe(
    z
      .string()
      .max(253, { error: (issue) => `a host holds at most 253 characters, this one has ${typeof issue.input === 'string' ? issue.input.length : 'more'}` })
      .regex(/^(\*\.)?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, {
        error: 'a host is a DNS name such as www.example.com, or *.example.com, without a port',
      }),
  );

/** A path prefix of whole segments: `/api` covers `/api` and `/api/x`, never `/apix`. Stored without a trailing slash (but `/`). */
export const pathPrefix = z
  .string()
  .max(1024, { error: 'a path holds at most 1024 characters' })
  .regex(/^\/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*$/, { error: 'a path starts with "/" and holds no query, no fragment, no "%" and no backslash' })
  .refine((path) => !path.split('/').some((segment) => segment === '.' || segment === '..'), { error: 'a path holds no "." or ".." segments' })
  .refine((path) => !path.includes('//'), { error: 'a path holds no empty segments' })
  .transform((path) => (path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path));

export const ingressRule = z.strictObject({
  host: host.describe('Host name, or *.example.com'),
  path: pathPrefix.default('/').describe('Path prefix of whole segments; the longest wins'),
  service: name.describe('Service of the same namespace'),
});
export type IngressRule = z.infer<typeof ingressRule>;

/** The form in which it is written. */
export const ingressForm = {
  rules: z.array(ingressRule).min(1).max(200),
  tls: z.boolean().default(false).describe('Stored, but not served yet'),
};

export const ingress = recordBase.extend({
  namespace: name,
  name,
  rules: z.array(ingressRule).min(1),
  tls: z.boolean(),
});
export type Ingress = z.infer<typeof ingress>;
