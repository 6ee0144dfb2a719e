# An instance of the sandbox that stands where no public registry is reached: its engine asks the one beside it.
ARG BASE
FROM ${BASE}
COPY sandbox-mirror.py /usr/local/sbin/mirror
RUN printf '%s\n' '[Unit]' 'Before=ssh.service' '[Service]' 'Type=oneshot' 'ExecStart=/usr/bin/python3 /usr/local/sbin/mirror' \
    '[Install]' 'WantedBy=multi-user.target' >/etc/systemd/system/mirror.service \
  && systemctl enable -q mirror.service
