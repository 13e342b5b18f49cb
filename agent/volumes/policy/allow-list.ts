/**
 * `[NAMESPACE=]SERVER[:/SHARE]`: what the author of a pod may name as a volume.
 *
 * Owns the rule's syntax and what it matches. Names and addresses are compared as texts: nothing is resolved, because
 * whoever answers a name would then decide. Does not know who asks.
 */
import { VolumeError } from '../../base/errors.ts'
import { showName } from '../../base/brands.ts'
import type { NfsTarget } from '../../base/volume-spec.ts'
import { parseServers } from '../spec/servers.ts'

export interface AllowRule {
  /** As the operator wrote it, for the log. */
  readonly text: string
  /** Undefined: every namespace. */
  readonly namespace: string | undefined
  /** Lower case. */
  readonly servers: readonly string[]
  /** Components of the path; undefined: every share. */
  readonly path: readonly string[] | undefined
  /** Only what lies below `path`, and there every share by its own name. */
  readonly isBelow: boolean
}

/** A label of RFC 1123, as Kubernetes' names of namespaces are. */
const namespaceForm = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const remedy = 'write SERVER, SERVER:/SHARE or SERVER:/FOLDER/*, with NAMESPACE= before it to allow it there only'

/** @throws VolumeError INVALID, field `option`. */
export function parseAllowRule (text: string, option: string): AllowRule {
  const refuse = (why: string): never => {
    throw new VolumeError('INVALID', `${option}: ${JSON.stringify(text.slice(0, 300))} ${why}`, {
      field: option, remedy
    })
  }
  const [, namespace, servers = '', path] = /^(?:([^=]*)=)?((?:\[[^\]]*\]|[^:[\]/])*)(?::(.*))?$/.exec(text) ?? []
  if (servers === '') return refuse('names no server')
  if (namespace !== undefined && !namespaceForm.test(namespace)) refuse('begins with what is no name of a namespace')
  return { text, namespace, servers: serversOf(servers, refuse), ...pathOf(path, refuse) }
}

function serversOf (text: string, refuse: (why: string) => never): readonly string[] {
  try {
    return parseServers(text).map((server) => server.toLowerCase())
  } catch {
    return refuse('names a server that is none')
  }
}

function pathOf (text: string | undefined, refuse: (why: string) => never): Pick<AllowRule, 'path' | 'isBelow'> {
  if (text === undefined) return { path: undefined, isBelow: false }
  if (!text.startsWith('/') || text.startsWith('//')) return refuse('has a share that does not begin with one "/"')
  const parts = text.split('/').filter((part) => part !== '')
  const isBelow = parts.at(-1) === '*'
  const path = isBelow ? parts.slice(0, -1) : parts
  if (path.some((part) => part === '.' || part === '..' || part.includes('*'))) {
    return refuse('has ".", ".." or "*" in its share')
  }
  return { path, isBelow }
}

/**
 * The first rule that allows all addresses of the target, or undefined.
 *
 * `SERVER:/SHARE` allows that share, by exactly that name, and what lies below it by subDir, which never follows a
 * link. A share of a longer name would be looked up by the server itself, through links that any writer of the share
 * can make: it is for `SERVER:/FOLDER/*` to say that those are exports of their own.
 */
export function ruleFor (
  rules: readonly AllowRule[],
  target: NfsTarget,
  namespace: string | undefined
): AllowRule | undefined {
  const share = target.share.split('/').filter((part) => part !== '')
  const whole = [...share, ...target.subDir.map(showName)]
  return rules.find((rule) =>
    (rule.namespace === undefined || rule.namespace === namespace) &&
    target.servers.every((server) => rule.servers.includes(server.toLowerCase())) &&
    (rule.path === undefined ||
      isWithin(rule.path, whole, rule.isBelow) && (rule.isBelow || share.length <= rule.path.length))
  )
}

function isWithin (path: readonly string[], whole: readonly string[], isBelow: boolean): boolean {
  return path.every((part, index) => whole[index] === part) && (!isBelow || whole.length > path.length)
}
