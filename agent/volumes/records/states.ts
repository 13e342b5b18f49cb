/**
 * The states of mounts and binds, as data. Owns which phases there are, what each promises, and what a crash in it
 * means. Does not know how a phase is reached; `recovery.ts` decides from these and from what is really mounted.
 */

/** A shared mount: one session (or kernel mount) for one key. */
export const mountPhases = {
  starting: { means: 'a session may run and the mount may exist', afterCrash: 'end' },
  mounted: { means: 'the mount exists and is served', afterCrash: 'keep' },
  ending: { means: 'nobody uses the mount, it is being taken away', afterCrash: 'end' }
} as const satisfies Record<string, PhaseFacts>

/** A bind of a shared mount at a path that somebody asked for. */
export const bindPhases = {
  attaching: { means: 'the folder and the bind may exist', afterCrash: 'end' },
  attached: { means: 'the bind exists', afterCrash: 'keep' },
  detaching: { means: 'the bind is being taken away', afterCrash: 'end' }
} as const satisfies Record<string, PhaseFacts>

export interface PhaseFacts {
  readonly means: string
  /** `end`: undo or finish until nothing is left; the CO repeats its call. `keep`: it stands, if it is really there. */
  readonly afterCrash: 'end' | 'keep'
}
export type MountPhase = keyof typeof mountPhases
export type BindPhase = keyof typeof bindPhases
