package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"gopkg.in/yaml.v3"

	"github.com/secretflow/kuscia/cmd/kuscia/confloader"
	tlsutils "github.com/secretflow/kuscia/pkg/utils/tls"
)

// read prints what Kuscia takes out of a kuscia.yaml of an autonomy node. Kuscia passes over fields that it does not
// know; here they are an error.
func read(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	strict := yaml.NewDecoder(file)
	strict.KnownFields(true)
	if err := strict.Decode(&confloader.AutonomyKusciaConfig{}); err != nil {
		return err
	}
	c, err := confloader.ReadConfig(path)
	if err != nil {
		return err
	}
	if _, err := tlsutils.ParseEncodedKey(c.DomainKeyData, ""); err != nil {
		return fmt.Errorf("domainKeyData: %w", err)
	}
	if c.KusciaAPI == nil {
		return errors.New("KusciaAPI has no settings")
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"approve": c.EnableWorkloadApprove, "capacity": c.Agent.Capacity, "datastore": c.Master.DatastoreEndpoint,
		"domain": c.DomainID, "gc": c.GarbageCollection, "image": c.Image, "k8s": c.Agent.Provider.K8s,
		"logLevel": c.LogLevel, "logs": c.Logrotate, "mode": c.RunMode, "protocol": c.Protocol,
		"reserved": c.Agent.ReservedResources, "runtime": c.Agent.Provider.Runtime, "sans": c.KusciaAPI.SANs,
	})
}
