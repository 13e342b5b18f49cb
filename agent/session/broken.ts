/** Where a broken invariant of this session is reported, from wherever it was met. */
import type { InvariantError } from '../base/errors.ts'

export type OnBroken = (error: InvariantError) => void
