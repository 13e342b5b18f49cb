/**
 * Flex arguments as CSI messages.
 *
 * Owns what kubelet puts beside the user's options, and the refusal of what is no such thing. Messages name the option
 * and never its value when the value may be a secret. Does not know what the options mean: the agent validates them
 * like CSI's attributes.
 */
import { createHash } from 'node:crypto'
import { parseAbsolutePath } from '../agent/base/brands.ts'
import { VolumeError } from '../agent/base/errors.ts'
import type { NodePublishVolumeRequest, NodeUnpublishVolumeRequest } from '../proto/csi/types.ts'
import type { DriverKind } from './personality.ts'

type Options = Readonly<Record<string, string>>

const reserved = 'kubernetes.io/'
const reservedByCsi = 'csi.storage.k8s.io/'
const secretPrefix = 'kubernetes.io/secret/'

function refuse (field: string, why: string, remedy?: string): never {
  throw new VolumeError('INVALID', `${field} ${why}`, remedy === undefined ? { field } : { field, remedy })
}

function decodeTarget (text: string | undefined): string {
  if (text === undefined || text === '') refuse('mount dir', 'is missing')
  const target = parseAbsolutePath(text, 'mount dir')
  if (target === '/') refuse('mount dir', 'is the root folder')
  return target
}

/** unmount tells only the path, so the path is the volume's name. */
export const volumeIdOf = (target: string): string => `flex-${createHash('sha256').update(target).digest('hex')}`

/** The parser's own message quotes its input, and its input has secrets in it. */
function parseJson (text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return refuse('json options', 'are not JSON')
  }
}

function decodeOptions (text: string | undefined): Options {
  if (text === undefined) return refuse('json options', 'are missing')
  const parsed = parseJson(text)
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    return refuse('json options', 'are not an object')
  }
  for (const [key, value] of Object.entries(parsed)) {
    if (typeof value !== 'string') refuse(`option ${JSON.stringify(key.slice(0, 200))}`, 'is not a string', 'quote it')
  }
  return parsed as Options
}

function decodeSecret (key: string, value: string): string {
  const bytes = Buffer.from(value, 'base64')
  // Node skips what is not base64; kubelet's encoder writes the padded standard alphabet, so a round trip is the check.
  if (bytes.toString('base64') !== value) refuse(`option ${JSON.stringify(key.slice(0, 200))}`, 'is not base64')
  return bytes.toString('utf8')
}

const readwrite: ReadonlyMap<string, boolean> = new Map([['rw', false], ['ro', true]])

function decodeReadOnly (options: Options): boolean {
  const told = options['kubernetes.io/readwrite'] ?? 'rw'
  return readwrite.get(told) ??
    refuse('option "kubernetes.io/readwrite"', `${JSON.stringify(told.slice(0, 50))} is neither "rw" nor "ro"`)
}

/** The pod's name as told, for `status` only: whoever writes the options can forge it, so nothing is decided by it. */
function ownerContext (options: Options): Options {
  const name = options['kubernetes.io/pod.name']
  const namespace = options['kubernetes.io/pod.namespace']
  return name === undefined || namespace === undefined
    ? {}
    : { [`${reservedByCsi}pod.name`]: name, [`${reservedByCsi}pod.namespace`]: namespace }
}

/** What the second driver is for is not left to be said again. @throws VolumeError when something else is said. */
function decodeClient (options: Options, kind: DriverKind): Options {
  if (kind === 'general') return {}
  const { client = 'kernel' } = options
  if (client !== 'kernel' && client !== 'auto') {
    refuse(
      'option "client"',
      `${JSON.stringify(client.slice(0, 50))} contradicts this driver, which mounts with client=kernel`,
      'leave it out, or use the driver without "-kernel"'
    )
  }
  return { client: 'kernel' }
}

export function decodeMount (args: readonly string[], kind: DriverKind = 'general'): Partial<NodePublishVolumeRequest> {
  const target = decodeTarget(args[0])
  const options = decodeOptions(args[1])
  const entries = Object.entries(options)
  const attributes = entries.filter(([key]) => !key.startsWith(reserved) && !key.startsWith(reservedByCsi))
  const secrets = entries.filter(([key]) => key.startsWith(secretPrefix))
    .map(([key, value]) => [key.slice(secretPrefix.length), decodeSecret(key, value)])
  return {
    volumeId: volumeIdOf(target),
    targetPath: target,
    readonly: decodeReadOnly(options),
    volumeContext: {
      ...Object.fromEntries(attributes) as Options, ...decodeClient(options, kind), ...ownerContext(options)
    },
    secrets: Object.fromEntries(secrets) as Options,
    volumeCapability: {
      // Flex knows no access modes: who may write is said by readwrite alone.
      accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' },
      mount: {
        fsType: options['kubernetes.io/fsType'] ?? '', mountFlags: [],
        volumeMountGroup: options['kubernetes.io/mounterArgs.FsGroup'] ?? ''
      }
    }
  }
}

export function decodeUnmount (args: readonly string[]): NodeUnpublishVolumeRequest {
  const target = decodeTarget(args[0])
  return { volumeId: volumeIdOf(target), targetPath: target }
}
