import test from 'ava'
import { decodePublish } from '../../../agent/csi/decode.ts'
import { statusOf } from '../../../agent/csi/grpc-status.ts'
import { parseVolumeSpec } from '../../../agent/volumes/spec/spec.ts'
import { encodeReply } from '../../../flex/answer.ts'
import type { NodeDoor } from '../../../flex/node-door.ts'
import { callOut } from '../../../flex/callouts.ts'
import { CallError } from '../../../proto/csi/client.ts'
import type { NodePublishVolumeRequest } from '../../../proto/csi/types.ts'
import { randomOf } from '../../model/exercise.ts'
import { mutate, whyNever, type FlexOptions } from '../../model/flex-options.ts'
import { chooseSeed } from '../../model/seed.ts'

const good: FlexOptions = {
  'kubernetes.io/fsType': '', 'kubernetes.io/readwrite': 'rw', 'kubernetes.io/pvOrVolumeName': 'data',
  'kubernetes.io/pod.name': 'web', 'kubernetes.io/pod.namespace': 'shop',
  'kubernetes.io/secret/token': Buffer.from('s3cret').toString('base64'), server: 'nas', share: '/export',
  subDir: 'team/a', mountOptions: 'hard,timeo=600'
}

/** The agent's end of the call, up to where it would mount. */
const agent: NodeDoor = {
  call: async (_service, method, request) => {
    try {
      decodePublish(
        { stagingTargetPath: '', publishContext: {}, ...request } as unknown as NodePublishVolumeRequest,
        'flex',
        parseVolumeSpec
      )
    } catch (error) {
      const { code, details } = statusOf(error)
      throw new CallError(method, code, details, { agentAnswered: true })
    }
    return await Promise.resolve({} as never)
  },
  close: () => undefined
}

test('10,000 option objects changed at random: one JSON each, a message for each refusal, and nothing is taken that should not be', async (t) => {
  const seed = chooseSeed((line) => { t.log(line) })
  const random = randomOf(seed)
  let taken = 0
  for (let n = 0; n < 10_000; n++) {
    const json = mutate(good, random)
    const reply = await callOut(['mount', '/pods/p/volumes/v~d/data', json], async () => await Promise.resolve(agent))
    const text = encodeReply(reply)
    const { status, message } = JSON.parse(text) as { status: string, message?: string }
    const never = whyNever(json)
    if (text.indexOf('\n') !== text.length - 1) t.fail(`more than one line: ${text}`)
    if (status === 'Success') {
      taken++
      if (never !== undefined) t.fail(`taken in spite of ${never}: ${json}`)
    } else if (
      status !== 'Failure' || message === undefined || message === '' ||
      /internal error|is not a function/.test(message)
    ) {
      t.fail(`${text} for ${json}`)
    } else if (message.includes(Buffer.from('s3cret').toString('base64')) || message.includes('s3cret')) {
      t.fail(`the message tells the secret: ${message}`)
    }
  }
  t.log(`${taken} taken`)
  t.true(taken > 500 && taken < 9500)
})
