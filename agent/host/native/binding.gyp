{
  'targets': [
    {
      'target_name': 'volbridge',
      'sources': ['addon.c', 'fuse_device.c', 'host_call.c', 'descriptors.c', 'launch.c', 'common.c', 'loop_part.c', 'busy_poll.c', 'cpu_latency.c', 'confine.c', 'landlock.c'],
      'defines': ['NAPI_VERSION=9'],
      'cflags_c': ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter', '-O2', '-fvisibility=hidden',
        # scripts/checks/hardening.ts looks for each of these in what was built. Level 3 needs GCC 12 and glibc 2.34; older ones warn and take 2.
        '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=3', '-Wno-error=cpp', '-fstack-protector-strong', '-fstack-clash-protection'],
      'ldflags': ['-Wl,-z,relro,-z,now,-z,noexecstack', '-Wl,--as-needed'],
      'conditions': [
        ['target_arch=="x64"', {'cflags_c': ['-fcf-protection=full']}],
        ['target_arch=="arm64"', {'cflags_c': ['-mbranch-protection=standard']}]
      ]
    }
  ]
}
