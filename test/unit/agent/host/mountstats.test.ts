/** The lines are laid out as nfs_show_stats of Linux 6.1 does (fs/nfs/super.c, rpc_clnt_show_stats); the figures are
 * made up. */
import test from 'ava'
import { unsentBytes } from '../../../../agent/host/mountstats.ts'

const text = `device rootfs mounted on / with fstype rootfs
device proc mounted on /proc with fstype proc
device 10.0.2.2:/export mounted on /var/lib/volbridge/mounts/abc with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.2,rsize=1048576,wsize=1048576
\tage:\t9
\tevents:\t3 7 0 0 1 3 9 74 0 1 0 1 0 0 1 0 0 1 0 0 1 0 0 0 0 0 0
\tbytes:\t0 300007 0 0 0 7 0 74
\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)
device 10.0.2.2:/export mounted on /mnt\\040x with fstype nfs statvers=1.1
\tbytes:\t5 10 0 4 0 14 0 1
`

test('bytes that were written and not sent are told for each mount', (t) => {
  t.is(unsentBytes(text, '/var/lib/volbridge/mounts/abc'), 300_000)
  t.is(unsentBytes(text, '/mnt x'), 0)
})

test('nothing is told of what is no NFS mount', (t) => {
  t.is(unsentBytes(text, '/proc'), undefined)
  t.is(unsentBytes(text, '/nowhere'), undefined)
  t.is(unsentBytes('', '/'), undefined)
})
