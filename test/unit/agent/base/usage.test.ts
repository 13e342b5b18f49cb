import test from 'ava'
import { noLimit, usageOf } from '../../../../agent/base/usage.ts'

const most = 2n ** 64n - 1n
const rows: ReadonlyArray<readonly [string, readonly [bigint, bigint, bigint], readonly [bigint, bigint, bigint]]> = [
  ['as it should be', [100n, 40n, 50n], [100n, 40n, 50n]],
  ['without a limit', [most, 40n, most], [noLimit, 40n, noLimit - 40n]],
  ['without a limit, nothing used', [most, 0n, most], [noLimit, 0n, noLimit]],
  ['available above total', [100n, 0n, 200n], [100n, 0n, 100n]],
  ['used above total', [100n, 150n, 10n], [100n, 100n, 0n]],
  ['free above total, so that used would be negative', [100n, -100n, 200n], [100n, 0n, 100n]],
  ['more available than is not used', [100n, 90n, 50n], [100n, 90n, 10n]],
  ['zero', [0n, 0n, 0n], [0n, 0n, 0n]],
  ['zero, and yet some available', [0n, 5n, 5n], [0n, 0n, 0n]]
]

for (const [what, [total, used, available], wanted] of rows) {
  test(`figures of a file system, ${what}, add up and are never negative`, (t) => {
    const usage = usageOf({ total, used, available })
    t.deepEqual([usage.total, usage.used, usage.available], [...wanted])
    t.deepEqual(usageOf(usage), usage)
  })
}
