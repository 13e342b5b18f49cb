// Tests that need root, /dev/fuse or a real NFS server. One file at a time in a process of its own: they mount, change
// credentials and send signals. Each worker removes what it made; scripts/test gives each file its own namespaces,
// which end with it.
export default {
  extensions: ['ts'],
  files: ['test/{semantics,model,conformance,cluster}/**/*.test.ts'],
  nodeArguments: ['--no-warnings=ExperimentalWarning'],
  workerThreads: false,
  concurrency: 1,
  serial: true,
  failWithoutAssertions: true,
  // A hang, not a figure: nothing here should be silent for so long.
  timeout: '5m'
}
