/**
 * The product on a real Kubernetes: one cluster for all, because starting one takes longer than most of the tests.
 * Owns its start and end and the order; the tests are in the files beside this one.
 */
import test from 'ava'
import { missing, type Need } from '../peers/needs.ts'
import { testNeeding } from '../peers/testing.ts'
import { agentLifeTests } from './agent-life.ts'
import { csiTests } from './csi.ts'
import { endTests, faultTests } from './faults.ts'
import { flexTests } from './flex.ts'
import { manyTests } from './many.ts'
import { podTests, removalTests } from './removal.ts'
import { Stage } from './world.ts'

const needs: readonly Need[] = ['root', 'fuse', 'ganesha', 'runc', 'kubernetes', 'containerd']
const stage = new Stage()
/** A hang, not a figure: a quiet machine takes half a minute. */
const startMs = 15 * 60_000

if (missing(...needs) === undefined) {
  test.before(async (t) => {
    // The whole start, hooks have no other progress.
    t.timeout(startMs)
    await stage.open((text) => { t.log(text) })
  })
  test.after.always(async () => { await stage.close() })
}

const declare = testNeeding(...needs)
csiTests(declare, stage)
podTests(declare, stage)
manyTests(declare, stage)
agentLifeTests(declare, stage)
faultTests(declare, stage)
flexTests(declare, stage)
endTests(declare, stage)
removalTests(declare, stage)
