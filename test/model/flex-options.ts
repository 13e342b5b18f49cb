/**
 * Option objects as a pod's author, a bug or an attacker may write them: a good one, changed at random.
 *
 * Owns the changes, and a judge of its own of what may be mounted at all. Does not know how the driver decides: the
 * judge shares nothing with it.
 */
import type { Random } from './exercise.ts'

export type FlexOptions = Readonly<Record<string, string>>

/** Of kubelet's own keys, of attributes, and neither. */
const keys = [
  'server', 'share', 'subDir', 'client', 'consistency', 'mountOptions', 'mountPermissions', 'type', 'onDelete',
  'kubernetes.io/fsType', 'kubernetes.io/readwrite',
  'kubernetes.io/secret/x', 'kubernetes.io/mounterArgs.FsGroup', 'kubernetes.io/pod.uid',
  'csi.storage.k8s.io/ephemeral', '__proto__', 'constructor', '', 'Server', 'readOnly'
]
const values = [
  '', '/', '..', '../..', '/../..', 'a/../../b', '/etc', 'ro', 'rw', 'hard', 'soft', 'vers=3', 'vers=4.1', 'vers=9',
  'lock', 'sec=krb5', 'noac,noac', 'rsize=-1', 'port=99999', 'fuse',
  'kernel', 'solowriter', '0777', '99999', '-1', '4294967296', 'null', '\u0000', '\n', '\u001b[31m', '%2e%2e', '𝒳',
  '\ud800', 'x'.repeat(5000), 'AAAA', 'not base64!', '{"a":1}', '$(reboot)', "'; reboot"
]
const others: readonly unknown[] = [null, 5, -1e308, true, {}, [], ['x'], { server: 'x' }]

const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random() * list.length)] as T

/** Changes of the object, each written as what it does to a copy. */
const changes: readonly ((object: Record<string, unknown>, random: Random) => void)[] = [
  (object, random) => { Reflect.deleteProperty(object, pick(random, Object.keys(object).concat('none'))) },
  (object, random) => { object[pick(random, keys)] = pick(random, values) },
  (object, random) => { object[pick(random, Object.keys(object).concat('x'))] = pick(random, values) },
  (object, random) => { object[pick(random, keys)] = pick(random, others) },
  (object, random) => { object['mountOptions'] = `${String(object['mountOptions'] ?? '')},${pick(random, values)}` },
  (object, random) => { object['share'] = `${String(object['share'] ?? '')}/${pick(random, values)}` },
  (object, random) => { object['kubernetes.io/readwrite'] = pick(random, ['ro', 'rw', 'RO', 'maybe']) }
]

/** Changes of its text, as damage on the way would make them. */
const damages: readonly ((text: string, random: Random) => string)[] = [
  (text, random) => text.slice(0, Math.floor(random() * text.length)),
  (text, random) => {
    const at = Math.floor(random() * text.length)
    return text.slice(0, at) + String.fromCodePoint(Math.floor(random() * 127) + 1) + text.slice(at + 1)
  },
  (text, random) => {
    const at = Math.floor(random() * text.length)
    return text.slice(0, at) + text.slice(at + Math.ceil(random() * 9))
  },
  (text, random) => text + pick(random, ['{}', ' ', '\n', '[]', '"', '\u0001']),
  (text, random) => `${pick(random, ['[', ' ', '\ufeff', '5', '{"server":'])}${text}`
]

export function mutate (good: FlexOptions, random: Random): string {
  const object: Record<string, unknown> = { ...good }
  for (let n = Math.floor(random() * 4); n > 0; n--) pick(random, changes)(object, random)
  const text = JSON.stringify(object)
  return random() < 0.3 ? pick(random, damages)(text, random) : text
}

/** Attributes in any case, as csi-driver-nfs takes them, and without the white space that YAML leaves around a text. */
const known =
  /^(?:server|share|subdir|client|consistency|mountoptions|mountpermissions|type|ondelete|kubernetes\.io\/.*|[^/]*\.k8s\.io\/.*)$/is

/** Why this must never be mounted, or undefined when it may. Stricter rules may refuse more. */
export function whyNever (json: string): string | undefined {
  let parsed: unknown
  try { parsed = JSON.parse(json) } catch { return 'no JSON' }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return 'no object'
  const entries = Object.entries(parsed)
  if (entries.some(([, value]) => typeof value !== 'string')) return 'a value that is no text'
  const options = new Map(
    (entries as [string, string][]).map(([key, value]) =>
      key.includes('/') ? [key, value] : [key.toLowerCase(), value.trim()]
    )
  )
  const stranger = [...options.keys()].find((key) => !known.test(key))
  if (stranger !== undefined) return `unknown key ${stranger}`
  if ((options.get('server') ?? '') === '') return 'no server'
  if (!(options.get('share') ?? '').startsWith('/')) return 'no share'
  if (
    (options.get('subdir') ?? '').split('/').includes('..') || (options.get('share') ?? '').split('/').includes('..')
  ) return 'a way out of the share'
  if (!['rw', 'ro'].includes(options.get('kubernetes.io/readwrite') ?? 'rw')) return 'neither rw nor ro'
  for (const [key, value] of options) {
    if (
      key.startsWith('kubernetes.io/secret/') &&
      !/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(value)
    ) return 'a secret that is not base64'
  }
  // kubelet's own keys are shown and decide nothing.
  if (
    [...options].some(([key, value]) =>
      !key.startsWith('kubernetes.io/') && !key.startsWith('csi.') && value.includes('\0')
    )
  ) return 'a NUL'
  return undefined
}
