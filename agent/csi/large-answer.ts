/**
 * Answers that are too large to be encoded in one go: the status of two thousand volumes takes a second, in which no
 * other call is answered.
 *
 * Owns how an answer is cut. A repeated field may be encoded in parts, one behind the other (protobuf's encoding guide,
 * "Last One Wins":
 * elements of repeated fields of concatenated messages are appended). Does not know which call it is.
 */
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js'
import { inSlices } from '../base/slices.ts'

/** One volume of a status takes up to a millisecond. */
export const sliceItems = 20

type Serialize = (part: object) => Buffer

/** The same bytes that `serialize` would make, or another order of them that means the same. Short answers are left to
 * gRPC as they are. */
export async function encodeInSlices (answer: object, serialize: Serialize): Promise<object> {
  const large = Object.entries(answer).filter((entry): entry is [string, readonly unknown[]] =>
    Array.isArray(entry[1]) && entry[1].length > sliceItems
  )
  if (large.length === 0) return answer
  const parts = [serialize({ ...answer, ...Object.fromEntries(large.map(([field]) => [field, []])) })]
  for (const [field, items] of large) {
    await inSlices(items, sliceItems, (slice) => { parts.push(serialize({ [field]: slice })) })
  }
  return Buffer.concat(parts)
}

/** A service whose answers may have been encoded before. */
export function takingEncoded (service: ServiceDefinition): ServiceDefinition {
  const method = (definition: MethodDefinition<object, object>): MethodDefinition<object, object> => ({
    ...definition,
    responseSerialize: (answer) => Buffer.isBuffer(answer) ? answer : definition.responseSerialize(answer)
  })
  return Object.fromEntries(
    Object.entries(service).map(([name, definition]) => [name, method(definition as MethodDefinition<object, object>)])
  )
}
