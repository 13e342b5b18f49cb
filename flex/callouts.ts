/**
 * The table of Flex call-outs.
 *
 * Owns which of kubelet's calls we answer and how. Loads a call's code only when it is that call: `init` needs none of
 * it and runs at every probe. Does not know stdout.
 */
import { failure } from './answer.ts'
import type { FlexCapabilities, FlexReply } from './answer.ts'
import type { OpenAgent } from './node-door.ts'
import type { DriverKind } from './personality.ts'

export interface CalloutContext {
  readonly kind: DriverKind
  readonly args: readonly string[]
  readonly openAgent: OpenAgent
}
type Callout = (context: CalloutContext) => FlexReply | Promise<FlexReply>

/**
 * All five are said, because kubelet's defaults for absent ones are mostly `true`.
 * attach: nothing to attach, and so only init, mount and unmount are ever called. selinuxRelabel, fsGroup: kubelet
 * would walk through the whole share. supportsMetrics: kubelet calls statfs on the mount, which our mounts answer also
 * when the server is away; those of the kernel's client with `hard` do not, and kubelet would wait for ever.
 * requiresFSResize: a share has no device to resize.
 */
export const capabilities: FlexCapabilities = {
  attach: false, selinuxRelabel: false, supportsMetrics: true, fsGroup: false, requiresFSResize: false
}

export const callouts = {
  init: ({ kind }) => ({
    status: 'Success', capabilities: kind === 'kernel' ? { ...capabilities, supportsMetrics: false } : capabilities
  }),
  mount: async ({ args, openAgent, kind }) => {
    const { mount } = await import('./bridge.ts')
    return await mount(args, openAgent, kind)
  },
  unmount: async ({ args, openAgent }) => {
    const { unmount } = await import('./bridge.ts')
    return await unmount(args, openAgent)
  }
} as const satisfies Readonly<Record<string, Callout>>

/** `argv` without the program: the call's name and its arguments. */
export function callOut (
  argv: readonly string[],
  openAgent: OpenAgent,
  kind: DriverKind = 'general'
): FlexReply | Promise<FlexReply> {
  const [name, ...args] = argv
  if (name === undefined) return failure('no call-out is named; kubelet calls init, mount and unmount')
  const callout: Callout | undefined = Object.hasOwn(callouts, name)
    ? callouts[name as keyof typeof callouts]
    : undefined
  // kubelet takes its default way for such a call and never makes it again, which is right: we have nothing to add to
  // it.
  if (callout === undefined) {
    return {
      status: 'Not supported', message: `call-out ${JSON.stringify(name.slice(0, 100))} is not needed by this driver`
    }
  }
  return callout({ args, openAgent, kind })
}
