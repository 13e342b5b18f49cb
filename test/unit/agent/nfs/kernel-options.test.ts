/** The words that mount(2) gets. That a kernel takes them is shown in a virtual machine. */
import test from 'ava'
import { kernelOptions, type KernelServerFacts } from '../../../../agent/nfs/kernel-options.ts'
import { parseVolumeSpec } from '../../../../agent/volumes/spec/spec.ts'

const words = (mountOptions: string, server: Partial<KernelServerFacts> = {}): string[] => {
  const { target } = parseVolumeSpec({ server: 'nas', share: '/data', client: 'kernel', mountOptions })
  return kernelOptions(target.options, {
    version: '4.2', address: '192.0.2.1', port: 2049, mountPort: undefined, clientAddress: '192.0.2.9', ...server
  }).split(',')
}
const version3 = { version: '3', mountPort: 20048, clientAddress: undefined } as const

test('version 4 gets the server\'s address and ours, and a file system of its own', (t) => {
  const found = words('')
  for (const word of [
    'vers=4.2', 'proto=tcp', 'addr=192.0.2.1', 'port=2049', 'clientaddr=192.0.2.9', 'hard', 'timeo=600', 'retrans=2',
    'sec=sys', 'nosharecache'
  ]) t.true(found.includes(word), word)
  t.false(found.some((word) => /^(mount|no?lock)/.test(word)), found.join())
})

test('version 3 gets the mount service\'s place, and locks that need no daemon unless they are asked for', (t) => {
  const found = words('', version3)
  for (const word of ['vers=3', 'mountvers=3', 'mountproto=tcp', 'mountaddr=192.0.2.1', 'mountport=20048', 'nolock']) {
    t.true(found.includes(word), word)
  }
  t.true(words('lock', version3).includes('lock'))
  t.false(words('lock', version3).includes('nolock'))
})

test('an IPv6 server is spoken to over IPv6 by both protocols', (t) => {
  const found = words('', { ...version3, address: '2001:db8::1' })
  for (const word of ['proto=tcp6', 'mountproto=tcp6', 'addr=2001:db8::1']) t.true(found.includes(word), word)
})

test('options keep their names and units', (t) => {
  const found = words(
    'softerr,timeo=50,retrans=5,rsize=65536,wsize=32768,nconnect=4,actimeo=7,noac,nocto,noresvport,lookupcache=pos,softreval,sec=krb5'
  )
  for (const word of [
    'softerr', 'timeo=50', 'retrans=5', 'rsize=65536', 'wsize=32768', 'nconnect=4', 'acregmin=7', 'acdirmax=7', 'noac',
    'nocto', 'noresvport', 'lookupcache=positive', 'softreval', 'sec=krb5'
  ]) t.true(found.includes(word), word)
})
