/**
 * The cluster's certificates: one authority that lives as long as the cluster, one certificate per role, made with
 * openssl. Owns their names and groups, which are what Kubernetes authorises by. Does not know who uses them.
 */
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

export interface Certificate { readonly certificate: string, readonly key: string }

/** Roles and what they are called: kubernetes.io/docs/reference/access-authn-authz (RBAC default roles, node
 * authorizer). */
const subjects = {
  'apiserver': () => '/CN=kube-apiserver',
  /** The API server as kubelet's client: logs, exec, statistics. */
  'apiserver-kubelet': () => '/O=system:masters/CN=kube-apiserver-kubelet-client',
  'admin': () => '/O=system:masters/CN=admin',
  'controller-manager': () => '/CN=system:kube-controller-manager',
  'scheduler': () => '/CN=system:kube-scheduler',
  'kubelet': (node: string) => `/O=system:nodes/CN=system:node:${node}`
} as const satisfies Record<string, (node: string) => string>

export type Role = keyof typeof subjects

export const certificateOf = (folder: string, role: Role | 'authority'): Certificate => ({
  certificate: path.join(folder, `${role}.crt`), key: path.join(folder, `${role}.key`)
})

function openssl (args: readonly string[]): void {
  execFileSync('openssl', [...args], { stdio: ['ignore', 'ignore', 'pipe'] })
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'] as const

/** Makes all of them, and the key that service account tokens are signed with. @throws Error with openssl's words. */
export function makeCertificates (folder: string, { node, address }: { node: string, address: string }): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const authority = certificateOf(folder, 'authority')
  openssl([
    'req', '-x509', ...newKey, '-keyout', authority.key, '-out', authority.certificate, '-days', '30', '-subj',
    '/CN=volbridge-cluster', '-addext', 'basicConstraints=critical,CA:TRUE'
  ])
  for (const role of Object.keys(subjects) as Role[]) {
    const { certificate, key } = certificateOf(folder, role)
    const request = path.join(folder, 'request')
    const extensions = path.join(folder, 'extensions')
    openssl(['req', ...newKey, '-keyout', key, '-out', request, '-subj', subjects[role](node)])
    writeFileSync(
      extensions,
      `subjectAltName=IP:${address},DNS:${node},DNS:kubernetes.default.svc\nextendedKeyUsage=serverAuth,clientAuth\n`
    )
    openssl([
      'x509', '-req', '-in', request, '-CA', authority.certificate, '-CAkey', authority.key, '-CAcreateserial', '-days',
      '30', '-extfile', extensions, '-out', certificate
    ])
    rmSync(request)
    rmSync(extensions)
  }
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  writeFileSync(path.join(folder, 'service-accounts.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }), {
    mode: 0o600
  })
  writeFileSync(path.join(folder, 'service-accounts.pub'), publicKey.export({ type: 'spki', format: 'pem' }))
  chmodSync(folder, 0o700)
}
