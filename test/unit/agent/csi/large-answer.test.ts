/** Answers cut into slices: the same message for every client, and others have their turn while it is made. */
import test from 'ava'
import { encodeInSlices, sliceItems, takingEncoded } from '../../../../agent/csi/large-answer.ts'
import { loadServices } from '../../../../proto/csi/load.ts'

const { Agent } = loadServices()
const { responseSerialize, responseDeserialize } = Agent['Status']!
const serialize = (part: object): Buffer => responseSerialize(part)

function statusOf (count: number): object {
  const volumes = Array.from({ length: count }, (_, index) => ({
    volumeId: `pv-${index}`, source: 'nas:/export', targets: [{ path: `/pods/${index}`, readOnly: index % 2 === 0 }],
    counters: { calls: index, replies: 2 },
    latency: { READ: { count: `${index}`, sumSeconds: 0.5, buckets: [{ upToSeconds: 0.001, count: `${index}` }] } }
  }))
  return {
    version: '1', pid: 7, volumes,
    troubles: Array.from({ length: count }, (_, index) => ({ op: 'mount', message: `trouble ${index}` })),
    losses: [{ source: 'nas:/a', bytes: '5', at: 'now' }]
  }
}

for (const count of [0, 1, sliceItems, sliceItems + 1, 5 * sliceItems, 777]) {
  test(`an answer of ${count} volumes is the same message, cut or not`, async (t) => {
    const answer = statusOf(count)
    const made = await encodeInSlices(answer, serialize)
    t.is(Buffer.isBuffer(made), count > sliceItems)
    const bytes = takingEncoded(Agent)['Status']?.responseSerialize(made) ?? Buffer.alloc(0)
    t.deepEqual(responseDeserialize(bytes), responseDeserialize(serialize(answer)))
  })
}

test('while a large answer is encoded others have their turn after every slice', async (t) => {
  let turns = 0
  let isEncoding = true
  const others = (): void => {
    turns++
    if (isEncoding) setImmediate(others)
  }
  setImmediate(others)
  await encodeInSlices(statusOf(50 * sliceItems), serialize)
  isEncoding = false
  // Volumes and troubles are 50 slices each, with a pause before each but the first.
  t.true(turns >= 98, `${turns} turns`)
})
