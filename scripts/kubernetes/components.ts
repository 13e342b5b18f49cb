/**
 * The programs that make a cluster: a row each says with what arguments and files it runs and when it is ready.
 *
 * Owns those rows; why a flag is there stands beside it. Does not know how a program is started on the node.
 */
import path from 'node:path'
import { certificateOf, type Role } from './certificates.ts'

/** What the rows are made from. Paths are the node's own. */
export interface ClusterPlan {
  readonly nodeName: string
  /** Loopback address that everything listens on, and the API's address inside the cluster. */
  readonly address: string
  /** Services get their addresses from here; loopback as well, so that nothing leaves the machine. */
  readonly serviceRange: string
  readonly featureGates: Readonly<Record<string, boolean>>
  /** Seconds between two looks of kubelet at a pod's volumes. */
  readonly statsSeconds: number
}

export interface Component {
  readonly command: (plan: ClusterPlan) => readonly string[]
  /** Name in /run/cluster/etc → contents. */
  readonly files: (plan: ClusterPlan) => Readonly<Record<string, string>>
}

export const componentNames = [
  'etcd', 'containerd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet'
] as const
export type ComponentName = typeof componentNames[number]

const certificates = '/run/cluster/certificates'
const etc = (name: string): string => `/run/cluster/etc/${name}`
const program = (name: string): string => `/run/programs/${name}`
const fileOf = (role: Role | 'authority'): string => certificateOf(certificates, role).certificate
const keyOf = (role: Role): string => certificateOf(certificates, role).key
/** etcd takes only names of the form host:port for its sockets, and makes them in its working folder. */
const etcdSocket = { name: 'unix://etcd:2379', path: 'unix:///run/etcd:2379', peer: 'unix://etcd:2380' } as const

export const containerdSocket = '/run/containerd/containerd.sock'
export const apiPort = 443
export const kubeletPort = 10250
const pauseImage = 'volbridge.test/pause:1'
export const images = { pause: pauseImage, shell: 'volbridge.test/shell:1' } as const

/** JSON is YAML, and needs no library. */
const asFile = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

/** A kubeconfig; `folder` is where its reader finds the certificates. */
export function kubeconfig (plan: ClusterPlan, role: Role, folder = certificates): string {
  const own = certificateOf(folder, role)
  return asFile({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{
      name: 'volbridge',
      cluster: {
        server: `https://${plan.address}:${apiPort}`, 'certificate-authority': path.join(folder, 'authority.crt')
      }
    }],
    users: [{ name: role, user: { 'client-certificate': own.certificate, 'client-key': own.key } }],
    contexts: [{ name: 'volbridge', context: { cluster: 'volbridge', user: role } }],
    'current-context': 'volbridge'
  })
}

const noFiles = (): Readonly<Record<string, string>> => ({})
const clientFiles = (name: string, role: Role) => (plan: ClusterPlan): Readonly<Record<string, string>> => ({
  [`${name}.kubeconfig`]: kubeconfig(plan, role)
})

const containerdConfig = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
# Debian's service raises it; here nobody may.
oom_score = 0
[grpc]
  address = "${containerdSocket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pauseImage}"
  # Not every machine lets root lower it.
  restrict_oom_score_adj = true
  enable_selinux = false
  # runc's default profile needs libseccomp's, and the tests' pods are privileged or trusted.
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    # Copies instead of overlays: works on every file system, and the images are a few megabytes.
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/run/cluster/etc"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
`

/** Pods of this cluster use the host's network; containerd only wants a configuration to be there. */
const network = asFile({ cniVersion: '1.0.0', name: 'loopback', plugins: [{ type: 'loopback' }] })

const kubeletConfig = (plan: ClusterPlan): string =>
  asFile({
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    address: plan.address,
    port: kubeletPort,
    healthzBindAddress: plan.address,
    containerRuntimeEndpoint: `unix://${containerdSocket}`,
    authentication: {
      anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: fileOf('authority') }
    },
    authorization: { mode: 'Webhook' },
    // Works with cgroup v1, hybrid and v2, and on machines that let nobody set limits.
    cgroupDriver: 'cgroupfs',
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    failCgroupV1: false,
    failSwapOn: false,
    // A machine's root may lack CAP_SYS_RESOURCE: kubelet then goes on without what it would have set.
    featureGates: { KubeletInUserNamespace: true, ...plan.featureGates },
    evictionHard: { 'memory.available': '50Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
    imageGCHighThresholdPercent: 100,
    nodeStatusUpdateFrequency: '5s',
    volumeStatsAggPeriod: `${plan.statsSeconds}s`,
    volumePluginDir: '/var/lib/kubelet/volume-plugins',
    // The network is this machine's: kubelet's rules would stay, and every packet on loopback pay for them, long after
    // the cluster is gone.
    makeIPTablesUtilChains: false,
    shutdownGracePeriod: '0s',
    clusterDomain: 'cluster.local'
  })

export const components = {
  'etcd': {
    command: () => [
      // In memory: the cluster ends with the node anyhow, and every write would wait for the disk.
      'env', '--chdir=/run', 'etcd', '--data-dir', '/run/etcd', '--listen-client-urls', etcdSocket.name,
      '--advertise-client-urls', etcdSocket.name,
      '--listen-peer-urls', etcdSocket.peer, '--initial-advertise-peer-urls', 'http://localhost:2380',
      '--initial-cluster', 'default=http://localhost:2380',
      '--log-level', 'warn', '--logger', 'zap'
    ],
    files: noFiles
  },
  'containerd': {
    command: () => ['containerd', '--config', etc('containerd.toml'), '--log-level', 'warn'],
    files: () => ({ 'containerd.toml': containerdConfig, '10-loopback.conflist': network })
  },
  'kube-apiserver': {
    command: (plan) => [
      program('kube-apiserver'), '--etcd-servers', etcdSocket.path,
      '--bind-address', plan.address, '--secure-port', String(apiPort),
      // The first address of the range is the API's own service; as it is also the bind address, pods reach it without
      // a proxy.
      '--service-cluster-ip-range', plan.serviceRange,
      // Published as the service's endpoint, where loopback is not allowed. Nobody connects to it.
      '--advertise-address', '192.0.2.1', '--endpoint-reconciler-type', 'none',
      '--tls-cert-file', fileOf('apiserver'), '--tls-private-key-file', keyOf('apiserver'), '--client-ca-file',
      fileOf('authority'),
      '--kubelet-client-certificate', fileOf('apiserver-kubelet'), '--kubelet-client-key', keyOf('apiserver-kubelet'),
      '--kubelet-certificate-authority', fileOf('authority'),
      '--kubelet-preferred-address-types', 'Hostname',
      '--service-account-issuer', 'https://kubernetes.default.svc', '--service-account-key-file',
      `${certificates}/service-accounts.pub`,
      '--service-account-signing-key-file', `${certificates}/service-accounts.key`,
      '--authorization-mode', 'Node,RBAC', '--enable-admission-plugins', 'NodeRestriction', '--allow-privileged',
      // Asks etcd for what Debian's 3.4 does not know, again and again.
      '--feature-gates', 'SizeBasedListCostEstimate=false', '--profiling=false'
    ],
    files: clientFiles('admin', 'admin')
  },
  'kube-controller-manager': {
    command: (plan) => [
      program('kube-controller-manager'), '--kubeconfig', etc('controller-manager.kubeconfig'), '--bind-address',
      plan.address, '--leader-elect=false', '--profiling=false',
      '--service-account-private-key-file', `${certificates}/service-accounts.key`, '--root-ca-file',
      fileOf('authority'), '--use-service-account-credentials'
    ],
    files: clientFiles('controller-manager', 'controller-manager')
  },
  'kube-scheduler': {
    command: (plan) => [
      program('kube-scheduler'), '--kubeconfig', etc('scheduler.kubeconfig'), '--bind-address', plan.address,
      '--leader-elect=false', '--profiling=false'
    ],
    files: clientFiles('scheduler', 'scheduler')
  },
  'kubelet': {
    command: (plan) => [
      program('kubelet'), '--config', etc('kubelet.json'), '--kubeconfig', etc('kubelet.kubeconfig'), '--root-dir',
      '/var/lib/kubelet',
      // A name that the node's own hosts file knows: logs and exec go through it.
      '--hostname-override', plan.nodeName, '--tls-cert-file', fileOf('kubelet'), '--tls-private-key-file',
      keyOf('kubelet')
    ],
    files: (plan) => ({ 'kubelet.json': kubeletConfig(plan), 'kubelet.kubeconfig': kubeconfig(plan, 'kubelet') })
  }
} as const satisfies Record<ComponentName, Component>
