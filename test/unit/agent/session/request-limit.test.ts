import test from 'ava'
import { Errno } from '../../../../agent/base/errno.ts'
import { RequestLimit, requestTimeoutFor } from '../../../../agent/session/request-limit.ts'

class Request {
  readonly startedMs: number
  answer: Errno | undefined
  constructor (startedMs: number) { this.startedMs = startedMs }
  get isGivenUp (): boolean { return this.answer !== undefined }
  giveUp (errno: Errno): void { this.answer = errno }
}

test('without a setting of the administrator there is no limit; a default is overruled, a maximum is kept with a margin', (t) => {
  t.is(requestTimeoutFor({ defaultSeconds: 0, maxSeconds: 0 }), undefined)
  t.deepEqual(requestTimeoutFor({ defaultSeconds: 20, maxSeconds: 0 }), {
    wishedSeconds: 65_535, limitMs: 65_535 * 800
  })
  t.deepEqual(requestTimeoutFor({ defaultSeconds: 0, maxSeconds: 60 }), { wishedSeconds: 65_535, limitMs: 48_000 })
  t.deepEqual(requestTimeoutFor({ defaultSeconds: 90, maxSeconds: 1 }), { wishedSeconds: 65_535, limitMs: 12_000 })
})

test('a request is answered with EIO when its time is over, those from the kernel\'s queue soon after, and said once', (t) => {
  let now = 0
  let said = 0
  const limit = new RequestLimit(12_000, () => now, () => { said += 1 })
  const [old, young] = [new Request(0), new Request(5000)]
  now = 11_999
  limit.look([old, young])
  t.is(old.answer, undefined)
  now = 12_000
  limit.look([old, young])
  t.is(old.answer, Errno.EIO)
  t.is(young.answer, Errno.EIO)
  const queued = new Request(now)
  limit.look([old, young, queued])
  t.is(queued.answer, undefined)
  now += 250
  limit.look([old, young, queued])
  t.is(queued.answer, Errno.EIO)
  t.is(said, 1)
})

test('as soon as the server answers, requests have their whole time again', (t) => {
  let now = 0
  const limit = new RequestLimit(12_000, () => now, () => undefined)
  const old = new Request(0)
  now = 12_000
  limit.look([old])
  limit.answered(true)
  const next = new Request(now)
  now += 11_000
  limit.look([next])
  t.is(next.answer, undefined)
})

test('requests that the server still has to answer do not pile up: more are refused until it does', (t) => {
  let now = 0
  const limit = new RequestLimit(12_000, () => now, () => undefined)
  const requests = Array.from({ length: 256 }, () => new Request(0))
  t.true(limit.admits)
  now = 12_000
  limit.look(requests)
  t.false(limit.admits)
  limit.answered(true)
  t.true(limit.admits)
})
