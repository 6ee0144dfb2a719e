# A bare Debian machine as its owner gets it from a provider: systemd, sshd, sudo, cloud-init, and the user `me`.
ARG BASE
FROM ${BASE}
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    cloud-init dbus iproute2 libpam-systemd openssh-server procps sudo systemd systemd-sysv \
  && apt-get clean && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*

# No datasource but the seed, so that the boot asks no network for one; what a container's engine owns stays as it is,
# and modules are the kernel's affair.
RUN printf '%s\n' 'datasource_list: [NoCloud]' 'network: {config: disabled}' 'preserve_hostname: true' \
    'ssh_deletekeys: false' 'ssh_genkeytypes: []' 'users: []' 'locale: false' 'apt: {preserve_sources_list: true}' \
    >/etc/cloud/cloud.cfg.d/90-test-host.cfg \
  && mkdir -p /var/lib/cloud/seed/nocloud \
  && echo 'instance-id: test-host' >/var/lib/cloud/seed/nocloud/meta-data \
  && printf '#cloud-config\n{}\n' >/var/lib/cloud/seed/nocloud/user-data \
  && for unit in cloud-init-local cloud-init-main cloud-init-network cloud-init cloud-config cloud-final; do \
    if [ -f "/usr/lib/systemd/system/$unit.service" ] || [ -f "/lib/systemd/system/$unit.service" ]; then \
      systemctl enable -q "$unit.service"; fi; done \
  && systemctl enable -q ssh.service && systemctl mask -q systemd-modules-load.service && systemctl set-default -q multi-user.target

RUN useradd --create-home --shell /bin/bash me \
  && echo 'me ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/me && chmod 440 /etc/sudoers.d/me \
  && install -d -o me -g me -m 700 /home/me/.ssh && mkdir /etc/docker

STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
