/**
 * How full a file system is, in figures that add up whatever its server says: used and available are never negative and
 * never more than there is in all.
 * Owns that rule and the word for "no limit". Does not know where figures come from.
 */

/** CSI and the agent's protocol have signed 64 bits. A total that reaches this has no limit (servers say 2^64-1). */
export const noLimit = 2n ** 63n - 1n

/** Of bytes or of inodes. A total of 0 means that the file system does not count them, or does not tell. */
export interface Usage {
  readonly total: bigint
  readonly used: bigint
  readonly available: bigint
}

const between = (value: bigint, max: bigint): bigint => value < 0n ? 0n : value > max ? max : value

/** `used` as it is counted; what contradicts `total` or itself is cut to what could be. */
export function usageOf ({ total, used, available }: Usage): Usage {
  const all = between(total, noLimit)
  const taken = between(used, all)
  return { total: all, used: taken, available: between(available, all - taken) }
}
