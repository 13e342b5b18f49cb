/** Places in a listing: which are kept. */
import test from 'ava'
import { listingEntriesMax } from '../../../../../agent/base/limits.ts'
import { Budget } from '../../../../../agent/fs/objects/budget.ts'
import { Positions } from '../../../../../agent/fs/objects/positions.ts'

const page = (first: number, count: number) =>
  Array.from({ length: count }, (_value, index) => ({
    name: `n${first + index}` as never, fileid: 1n, cookie: BigInt(first + index + 1), attributes: undefined,
    handle: undefined
  }))

test('of a listing longer than the maximum the last entries are found again, and never more memory is used', (t) => {
  const budget = new Budget(1024 * 1024 * 1024)
  const positions = new Positions(budget)
  const step = 50_000
  const end = 3 * listingEntriesMax
  for (let index = 0; index < end; index += step) positions.add(index, positions.cookieBefore(index), page(index, step))
  const { count } = positions
  t.true(count >= end)
  t.is(positions.cookieBefore(count), BigInt(count))
  t.true(positions.knows(count - listingEntriesMax / 4))
  t.is(positions.cookieBefore(count - 1_000), BigInt(count - 1_000))
  t.false(positions.knows(100))
  t.is(positions.namesBefore(count), undefined)
  t.true(budget.bytes <= 16 * (listingEntriesMax + step), `${budget.bytes} bytes`)
})

test('who was used longest ago lets go first, and of that listing the place where it was read stays', (t) => {
  const budget = new Budget(16 * 2_500)
  const [first, second, third] = [new Positions(budget), new Positions(budget), new Positions(budget)]
  first.add(0, 0n, page(0, 1_000))
  first.standing = 700
  second.add(0, 0n, page(0, 1_000))
  third.add(0, 0n, page(0, 1_000))
  t.true(budget.bytes <= 16 * 2_500)
  t.deepEqual([first.count, second.count, third.count], [700, 1_000, 1_000])
  t.is(first.cookieBefore(700), 700n)
  t.false(first.knows(699))
  first.add(700, 700n, page(700, 10))
  t.is(first.cookieBefore(705), 705n)
})
