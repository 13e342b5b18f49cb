/**
 * One unary call: observed, answered in time, its failure translated once.
 *
 * Owns the way from a grpc-js handler to a plain async function and back. Does not know what the calls mean.
 */
import { status } from '@grpc/grpc-js'
import type { ServerUnaryCall, ServiceDefinition, UntypedServiceImplementation, handleUnaryCall } from '@grpc/grpc-js'
import { within } from '../base/deadline.ts'
import { VolumeError } from '../base/errors.ts'
import { csiAnswerMs } from '../base/limits.ts'
import type { Door } from '../volumes/operations.ts'
import { doorHeader, unmeasuredHeader } from '../../proto/csi/client.ts'
import type { MethodName, RequestOf, ResponseOf, ServiceName } from '../../proto/csi/types.ts'
import { encodeInSlices } from './large-answer.ts'
import { statusOf, toServiceError } from './grpc-status.ts'

const doors: ReadonlyMap<string, Door> = new Map([['csi', 'csi'], ['flex', 'flex'], ['hand', 'hand']])

export interface CallContext {
  readonly door: Door
  /** The caller has told kubelet that its mounts are not to be asked for statistics. */
  readonly unmeasured: boolean
}
export interface CallFacts { readonly method: string, readonly door: Door, readonly request: object }
export interface CallOutcome { readonly code: string, readonly error: unknown }
/** Told when a call begins; what it returns is told how the call ended, exactly once. */
export type CallObserver = (facts: CallFacts) => (outcome: CallOutcome) => void

/** The calls of a service that are served; one left out is answered UNIMPLEMENTED. */
export type Implementation<S extends ServiceName> = {
  readonly [M in MethodName<S>]?: (
    request: RequestOf<S, M>,
    context: CallContext
  ) => ResponseOf<S, M> | Promise<ResponseOf<S, M>>
}

export interface UnaryOptions {
  readonly observer: CallObserver
  /** The door of every call, or undefined: the caller's header says it. */
  readonly door: Door | undefined
  readonly answerMs?: number
}

type AnyMethod = (request: object, context: CallContext) => object | Promise<object>

/** Whoever says nothing, or something we don't know, is a person with a tool: `hand`, the door with the fewest
 * liberties. */
function doorOf (call: ServerUnaryCall<object, object>): Door {
  return doors.get(call.metadata.get(doorHeader)[0]?.toString() ?? '') ?? 'hand'
}

/** How long this caller waits, less the time that an answer needs to get there on a busy node. */
function patienceMs (call: ServerUnaryCall<object, object>, answerMs: number): number {
  const deadline = call.getDeadline()
  const until = deadline instanceof Date ? deadline.getTime() : deadline
  const left = until - Date.now()
  return Math.max(1, Math.min(answerMs, left - Math.min(1000, Math.max(100, left / 5))))
}

function unary (
  name: string,
  method: AnyMethod,
  serialize: (answer: object) => Buffer,
  { observer, door, answerMs = csiAnswerMs }: UnaryOptions
): handleUnaryCall<object, object> {
  const answer = async (call: ServerUnaryCall<object, object>, context: CallContext): Promise<object> => {
    const patience = patienceMs(call, answerMs)
    return await within(patience, Promise.resolve(method(call.request, context)), () => {
      // The work goes on and keeps its volume locked, so that a repeat is told ABORTED until it is over.
      throw new VolumeError('TIMED_OUT', `${name} is not finished after ${Math.round(patience / 1000)} s and goes on`, {
        remedy: 'ask again later'
      })
    })
  }
  return (call, callback) => {
    const context = { door: door ?? doorOf(call), unmeasured: call.metadata.get(unmeasuredHeader).length > 0 }
    const ended = observer({ method: name, door: context.door, request: call.request })
    answer(call, context).then(async (response) => await encodeInSlices(response, serialize)).then((response) => {
      ended({ code: 'OK', error: undefined })
      callback(null, response)
    }, (error: unknown) => {
      const outcome = statusOf(error)
      ended({ code: status[outcome.code], error })
      callback(toServiceError(outcome))
    })
  }
}

/** grpc-js handlers for an implementation of `service`, which has to take answers that are encoded already. */
export function toHandlers<S extends ServiceName> (
  implementation: Implementation<S>,
  service: ServiceDefinition,
  options: UnaryOptions
): UntypedServiceImplementation {
  const methods = Object.entries(implementation) as [string, AnyMethod][]
  return Object.fromEntries(
    methods.map(([name, method]) => [
      name, unary(name, method, (answer) => service[name]?.responseSerialize(answer) ?? Buffer.alloc(0), options)
    ])
  )
}
