/**
 * Which fields the protocol itself marks as secret (option `csi_secret`).
 *
 * Owns the walk over the descriptors. Does not know what is done to such a field: `agent/observe/redact.ts` hides it.
 */
import { descriptors } from './descriptors.ts'

interface Field { readonly type: string, readonly options?: Readonly<Record<string, unknown>> }
interface Descriptor {
  readonly fields?: Readonly<Record<string, Field>>
  readonly nested?: Readonly<Record<string, Descriptor>>
  readonly methods?: Readonly<Record<string, { readonly requestType: string }>>
}

/** What is known of one message: its secret fields, and the messages in its other fields. */
export interface MessageShape {
  isSecret (field: string): boolean
  message (field: string): MessageShape | undefined
}

const packagePath = ['csi', 'v1']

function child (scope: readonly Descriptor[], name: string): readonly Descriptor[] | undefined {
  // Protobuf looks a name up from the innermost scope outwards.
  for (let depth = scope.length; depth > 0; depth--) {
    const found = scope[depth - 1]?.nested?.[name]
    if (found !== undefined) return [...scope.slice(0, depth), found]
  }
  return undefined
}

function shape (scope: readonly Descriptor[]): MessageShape {
  const fields = scope.at(-1)?.fields ?? {}
  return {
    isSecret: (field) => fields[field]?.options?.['(csi_secret)'] === true,
    message: (field) => {
      const type = fields[field]?.type
      const found = type === undefined ? undefined : child(scope, type)
      return found?.at(-1)?.fields === undefined ? undefined : shape(found)
    }
  }
}

/** The shape of a csi.v1 message such as `NodePublishVolumeRequest`, or undefined for a name that is none. */
export function shapeOf (messageName: string): MessageShape | undefined {
  const scope: Descriptor[] = [descriptors as Descriptor]
  for (const name of packagePath) scope.push(scope.at(-1)?.nested?.[name] ?? {})
  const found = child(scope, messageName)
  return found === undefined ? undefined : shape(found)
}
