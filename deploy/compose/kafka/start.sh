#!/bin/bash
# Formats a new node with the administrator's password and the cluster's id, then runs it.
set -eu
settings=/tmp/server.properties
sed "s/@NODE@/$NODE/g" /etc/kafka/fame/server.properties > "$settings"
if [ ! -e /var/lib/kafka/data/meta.properties ]; then
  password=$(cat /etc/kafka/secrets/admin.password)
  /opt/kafka/bin/kafka-storage.sh format --config "$settings" \
    --cluster-id "$(cat /etc/kafka/secrets/cluster.id)" \
    --add-scram "SCRAM-SHA-512=[name=kafka-admin,password=$password]"
fi
exec /opt/kafka/bin/kafka-server-start.sh "$settings"
